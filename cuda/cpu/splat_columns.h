// Codes Gaussians in Morton order: their places as halves of cells, their other values as columns of whole numbers.
//
//   place    cell of a Gaussian in the grid, three whole numbers; its Morton code interleaves their bits
//   value    in fine steps; a row's own step is 2^shift of them, q = value >> shift
//   near     the kNear nearest of the rows before a row, nearest first; -1 where there are fewer
//   node     which decision about a number is taken
#pragma once
#include <algorithm>
#include <cstdlib>

#include "entropy.h"

namespace nf {

constexpr int kNear = 6, kNodes = 256, kBuckets = 20;
constexpr int64_t kLargest = (1 << 20) - 1;  // of |value|: no residual then has more than kBuckets + 1 bits
constexpr int kMostShift = 10;

inline int bits_of(int64_t v) {
    int n = 0;
    for (; v; v >>= 1) ++n;
    return n;
}

inline void nearest_before(const int32_t* places, int64_t count, int window, int32_t* near) {
    for (int64_t i = 0; i < count; ++i) {
        int64_t best[kNear];
        int32_t* row = near + i * kNear;
        int have = 0;
        for (int64_t j = i - 1; j >= 0 && j >= i - window; --j) {
            int64_t apart = 0;
            for (int a = 0; a < 3; ++a) {
                int64_t off = int64_t(places[3 * i + a]) - places[3 * j + a];
                apart += off * off;
            }
            if (have == kNear && apart >= best[have - 1]) continue;
            int k = have < kNear ? have++ : kNear - 1;
            for (; k > 0 && best[k - 1] > apart; --k) {
                best[k] = best[k - 1];
                row[k] = row[k - 1];
            }
            best[k] = apart;
            row[k] = int32_t(j);
        }
        for (; have < kNear; ++have) row[have] = -1;
    }
}

// One whole number: is it 0, its sign, how many bits it has, the bits below the highest. `decide(node, bit)`.
template <class Decide> int64_t code_number(Decide&& decide, int64_t value) {
    int64_t size = std::llabs(value);
    if (!decide(0, size != 0)) return 0;
    int negative = decide(1, value < 0), side = negative << 7, below = bits_of(size) - 1, bits = 0;
    while (bits < kBuckets && decide(2 + bits + side, bits < below)) ++bits;
    int64_t found = 1;
    for (int b = bits - 1; b >= 0; --b) {
        int done = bits - 1 - b;
        int node = done == 0 ? 24 + bits : done == 1 ? 46 + 2 * bits + int(found & 1) : 90 + b;
        found = found << 1 | decide(node + side, int(size >> b & 1));
    }
    return negative ? -found : found;
}

// What is expected of a value, from the rows near it.
struct Guess {
    int64_t mean = 0, spread = 0;
    int rows = 0;
    Guess(const int32_t* values, const int32_t* near, int columns, int c) {
        int64_t sum = 0, weight = 0;
        for (; rows < kNear && near[rows] >= 0; ++rows) {
            int w = rows == 0 ? 3 : rows < 3 ? 2 : 1;
            sum += w * int64_t(values[near[rows] * int64_t(columns) + c]);
            weight += w;
        }
        if (!rows) return;
        int64_t size = (std::llabs(sum) + weight / 2) / weight;
        mean = sum < 0 ? -size : size;
        for (int j = 0; j < rows; ++j) spread += std::llabs(values[near[j] * int64_t(columns) + c] - mean);
        spread = spread * 4 / rows;
    }
};

inline int signed_class(int64_t v) {
    int size = std::min(4, bits_of(std::llabs(v)));
    return v < 0 ? 4 - size : 4 + size;
}

// values [count, columns], shifts [count], near [count, kNear]; `predict`: from the rows near, else from 0.
template <class Coder> struct ColumnCoder {
    static constexpr int kSpread = 12 * 8, kBefore = 9 * 9, kShift = 16 * 8, kWhere = 64;
    static constexpr int kContexts = kSpread + kBefore + kShift + kWhere;
    Coder& coder;
    int columns;
    bool predict;
    Mixed model;
    std::vector<int64_t> before;  // residuals of this row, two zeros first
    ColumnCoder(Coder& coder_, int columns_, bool predict_)
        : coder(coder_), columns(columns_), predict(predict_),
          model(size_t(kContexts) * kNodes * columns_, size_t(columns_) * kNodes, kInputs), before(columns_ + 2, 0) {}

    void one(int32_t* values, int64_t row, int c, int shift, const int32_t* near) {
        static const int32_t none[1] = {-1};
        Guess guess(values, predict ? near : none, columns, c);
        int64_t q = (guess.mean + ((int64_t(1) << shift) >> 1)) >> shift;
        int fraction = int(((guess.mean - q * (int64_t(1) << shift)) * 8 + (int64_t(1) << shift) * 4) >> shift) & 7;
        int spread = guess.rows ? std::min(11, bits_of(guess.spread >> shift)) : 11;
        int first = kSpread, second = first + kBefore, third = second + kShift;
        size_t context[kInputs] = {
            size_t(spread * 8 + fraction), size_t(first + signed_class(before[c + 1]) * 9 + signed_class(before[c])),
            size_t(second + shift * 8 + std::min(spread, 7)), size_t(third + std::clamp<int64_t>(q + 32, 0, 63))};
        auto decide = [&](int node, int bit) {
            size_t slot[kInputs];
            for (int n = 0; n < kInputs; ++n) slot[n] = (context[n] * columns + c) * kNodes + node;
            return model.code(coder, slot, size_t(c) * kNodes + node, bit);
        };
        int32_t& value = values[row * columns + c];
        int64_t found = code_number(decide, (value >> shift) - q);
        int64_t most = kLargest >> shift;
        value = int32_t(std::clamp(q + found, -most, most) * (int64_t(1) << shift));
        before[c + 2] = found;
    }
    void run(int32_t* values, const uint8_t* shifts, const int32_t* near, int64_t count) {
        for (int64_t i = 0; i < count; ++i)
            for (int c = 0; c < columns; ++c) one(values, i, c, shifts[i], near + i * kNear);
    }
};

// Cells are halved along one bit of the Morton code after the other: of a cell's n Gaussians, how many lie below?
template <class Coder> struct PlaceCoder {
    static constexpr int kFew = 16, kSlots = kFew * kFew + 64 * 64, kLevels = 64;
    Coder& coder;
    Mixed model;
    uint64_t* codes;
    PlaceCoder(Coder& coder_, uint64_t* codes_)
        : coder(coder_), model(size_t(kSlots) * (kLevels + 3), kLevels, 2), codes(codes_) {}

    int decide(int node, int level, int bit) {
        size_t slot[2] = {size_t(kSlots) * level + node, size_t(kSlots) * (kLevels + level % 3) + node};
        return model.code(coder, slot, level, bit);
    }
    int64_t below(int64_t count, int level, int64_t known) {
        int first = count < kFew ? int(count) * kFew : kFew * kFew;
        if (count == 1) return decide(first, level, int(known));
        if (decide(first, level, known == 0)) return 0;
        if (decide(first + 1, level, known == count)) return count;
        int64_t found = count < kFew ? 1 : 0;
        if (count < kFew) {
            while (found < count - 1 && decide(first + 1 + int(found), level, known > found)) ++found;
            return found;
        }
        int width = bits_of(count);
        for (int b = width - 1; b >= 0; --b) {
            if ((found | int64_t(1) << b) > count) continue;
            int done = width - 1 - b;
            int node = first + 64 * width + (done < 3 ? 8 + 8 * done + (int(found >> (b + 1)) & 7) : 2 + std::min(b, 5));
            found |= int64_t(decide(node, level, int(known >> b & 1))) << b;
        }
        return found;
    }
    void run(int64_t begin, int64_t end, uint64_t prefix, int level) {
        if (level < 0) {
            std::fill(codes + begin, codes + end, prefix);
            return;
        }
        uint64_t upper = prefix | uint64_t(1) << level;
        int64_t known = std::lower_bound(codes + begin, codes + end, upper) - (codes + begin);
        int64_t middle = begin + below(end - begin, level, known);
        if (begin < middle) run(begin, middle, prefix, level - 1);
        if (middle < end) run(middle, end, upper, level - 1);
    }
};

// Which of a Gaussian's equal descriptions (its axes in another order or turned about) is nearest to those near it.
//
// rotations [count, 4], unit; turns [many, 4]: q times a turn is the same Gaussian with its scales permuted; out [count, 3]:
// xyz / (1 + w); chosen [count]: which turn.
inline void align_rotations(const double* rotations, int64_t count, const double* turns, int64_t many, const int32_t* near,
                            double* out, int32_t* chosen) {
    constexpr double kLeastW = -0.2;  // a little beyond a half turn, so that neighbours need not jump to its other name
    for (int64_t i = 0; i < count; ++i) {
        double guess[3] = {0, 0, 0}, weight = 0, best = 1e300;
        const int32_t* row = near + i * kNear;
        for (int m = 0; m < kNear && row[m] >= 0; ++m) {
            double w = m == 0 ? 3 : m < 3 ? 2 : 1;
            for (int a = 0; a < 3; ++a) guess[a] += w * out[3 * row[m] + a];
            weight += w;
        }
        for (double& g : guess) g = weight > 0 ? g / weight : 0;
        for (int64_t m = 0; m < many; ++m) {
            const double *p = rotations + 4 * i, *h = turns + 4 * m;
            double q[4] = {p[0] * h[0] - p[1] * h[1] - p[2] * h[2] - p[3] * h[3],
                           p[0] * h[1] + p[1] * h[0] + p[2] * h[3] - p[3] * h[2],
                           p[0] * h[2] - p[1] * h[3] + p[2] * h[0] + p[3] * h[1],
                           p[0] * h[3] + p[1] * h[2] - p[2] * h[1] + p[3] * h[0]};
            for (double sign : {1.0, -1.0}) {
                if (sign * q[0] < kLeastW) continue;
                double found[3], apart = 0;
                for (int a = 0; a < 3; ++a) {
                    found[a] = sign * q[a + 1] / (1 + sign * q[0]);
                    apart += (found[a] - guess[a]) * (found[a] - guess[a]);
                }
                if (apart >= best) continue;
                best = apart;
                std::copy(found, found + 3, out + 3 * i);
                chosen[i] = int32_t(m);
            }
        }
    }
}

}  // namespace nf
