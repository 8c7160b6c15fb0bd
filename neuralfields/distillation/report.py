"""The report of a conversion as lines for people."""

from typing import Any

from neuralfields.files import size_text


def report_text(result: dict[str, Any]) -> str:
    """Formats the report of a conversion as lines for people."""
    ratio = result["bytes_before"] / max(result["bytes_after"], 1)
    smaller = f" ({ratio:.3g} times smaller)" if ratio > 1 else ""
    lines = [
        f"wrote {result['path']}: {result['from']} -> {result['to']} in {result['seconds']:.1f} s,"
        f" {size_text(result['bytes_before'])} -> {size_text(result['bytes_after'])}{smaller}",
        f"against the teacher {result['psnr_against_teacher']:.2f} dB, worst of {result['views']} views"
        f" {result['worst_view_against_teacher']:.2f} dB; side by side: {result['picture']}",
    ]
    if "student_psnr" in result:
        lost = result["student_psnr"] - result["teacher_psnr"]
        lines.append(
            f"against the photos {result['student_psnr']:.2f} dB,"
            f" the teacher {result['teacher_psnr']:.2f} dB ({lost:+.2f})"
        )
    return "\n".join(lines)
