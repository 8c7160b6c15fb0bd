"""Modules of the page joined into one script, and what is left out of it."""

import subprocess

import pytest

from neuralfields.errors import InputError
from neuralfields.serving.bundle import BLANK, bundle, shrunk
from tests.support.page_files import NODE


def test_modules_become_one_script() -> None:
    modules = {
        "a": 'import { x, f } from "./b.js";\nconst own = 2;\n// a comment\nexport const y = own * f(x);\n',
        "b": "const own = 3;\n\n/** Three\n * times. */\nexport function f(v) { return own * v; }\n"
        "export const x = 5;\n",
    }  # fmt: skip
    made = bundle(["a", "b"], modules)
    assert made.count("const own") == 2 and "comment" not in made and "Three" not in made
    assert made.index("b_js = ") < made.index("const{x,f}=b_js;") and "return{f,x};" in made
    assert "import" not in made and "export" not in made
    for source, match in {
        'import { z } from "./a.js";\n': "imports itself by a -> b -> a", 'import * as z from "./a.js";\n': "'import'",
        "export default 3;\n": "'export'", "const at = import.meta.url;\n": "import.meta",
        'import { z } from "./none.js";\n': "none.js: is not among",
    }.items():  # fmt: skip
        with pytest.raises(InputError, match=match):
            bundle(["a"], {**modules, "b": source})


TRICKY = r"""const a = [1, -2, 3], text = "a  +  b // c", other = "it's {  x  }".length;
const word = `x  ${ a.map((v) => `<${v + 1}>`).join(",  ") }  y`;
const pattern = /[\/ ,]+ ?/g, twice = 4 / 2 / 1; // it's "quoted" and not code;
let i = 0;
const sum = a[0] + +a[1] - -a[2] + i++ + ++i; /* between */
const shader = `
  #define F(x) (x * 2)
  // a comment
  float y = F(${ twice }) * ( 1.0 + 2.0 ) ;
`;
const chosen = i > 1 ? .5 : `multi ${ { k: "}" }.k }`;
console.log(JSON.stringify([text, word, "a / b,c".split(pattern), twice, sum, chosen, a?.[0], other]),
  /#define F\(x\) \(x \* 2\)/.test(shader), shader.includes("comment"));
"""


@pytest.mark.skipif(NODE is None, reason="no Node on this machine")
def test_what_is_left_out_means_nothing() -> None:
    """Texts, patterns, signs beside signs and directives of shaders stay; the same is printed from fewer letters."""
    small = shrunk(BLANK.sub("", TRICKY))
    whole, less = (
        subprocess.run([NODE, "-e", code], capture_output=True, text=True, check=True).stdout
        for code in (TRICKY, small)
    )
    assert whole.startswith('["a  +  b // c","x  <2>,  <-1>,  <4>  y",["a","b","c"],2,') and " true " in whole
    assert less == whole.replace("true true", "true false") and len(small) < 0.9 * len(TRICKY)
