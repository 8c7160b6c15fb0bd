// Adaptive binary coding with mixed contexts, in whole numbers alone: the same bits on every machine.
//
//   p            probability of a 1, in 65536ths              slot    one adaptive probability: 22 bits of it, 10 of a count
//   stretch(p)   256 ln(p / (1 - p)), from -2047 to 2047      squash  its inverse
//   mixing       p = squash(sum_i w_i stretch(p_i)), the weights learned as bits come (Mahoney, "Adaptive weighing of
//                context models for lossless data compression", 2005)
//
// docs/nfz.md says the same in words, neuralfields/compression/reference.py in Python.
#pragma once
#include <cstddef>
#include <cstdint>
#include <vector>

namespace nf {

constexpr int kInputs = 4, kStretch = 2047, kSlotLimit = 255, kWeightOne = 65536;
constexpr uint32_t kFreshSlot = 1u << 31;  // one half, and nothing seen

// squash(x) at x = -2048, -1920 ... 2048: 65536 / (1 + exp(-x / 256)); between them a straight line.
constexpr int kSquash[33] = {22,    36,    60,    98,    162,   267,   439,   720,   1179,  1921,  3108,
                             4971,  7812,  11955, 17625, 24743, 32768, 40793, 47911, 53581, 57724, 60565,
                             62428, 63615, 64357, 64816, 65097, 65269, 65374, 65438, 65476, 65500, 65514};

inline int squash(int64_t x) {
    int place = int(x > kStretch ? kStretch : x < -kStretch ? -kStretch : x) + 2048, part = place & 127;
    return (kSquash[place >> 7] * (128 - part) + kSquash[(place >> 7) + 1] * part + 64) >> 7;
}

struct Tables {
    int16_t stretch[4096];  // of p / 16, rounded down
    uint32_t reciprocal[kSlotLimit + 1];
    Tables() {
        int x = -kStretch;
        for (int i = 0; i < 4096; ++i) {
            while (x < kStretch && squash(x) < 16 * i + 8) ++x;
            stretch[i] = int16_t(x);
        }
        for (int n = 0; n <= kSlotLimit; ++n) reciprocal[n] = 131072u / uint32_t(2 * n + 3);
    }
};
inline const Tables& tables() {
    static const Tables made;
    return made;
}

// Where [low, high] is cut, so that a 1 takes p of it.
inline uint32_t cut(uint32_t low, uint32_t high, int p) {
    uint32_t range = high - low;
    return low + (range >> 16) * uint32_t(p) + (((range & 0xffff) * uint32_t(p)) >> 16);
}

struct Encoder {
    std::vector<uint8_t> bytes;
    uint32_t low = 0, high = 0xffffffffu;
    int code(int p, int bit) {
        uint32_t middle = cut(low, high, p);
        if (bit) high = middle; else low = middle + 1;
        for (; ((low ^ high) >> 24) == 0; low <<= 8, high = high << 8 | 255) bytes.push_back(uint8_t(high >> 24));
        return bit;
    }
    void finish() {
        for (int i = 0; i < 4; ++i, high <<= 8) bytes.push_back(uint8_t(high >> 24));
    }
};

struct Decoder {
    const uint8_t *next, *end;
    uint32_t low = 0, high = 0xffffffffu, value = 0;
    int64_t beyond = 0;  // bytes wanted past the end; they are zeros
    Decoder(const uint8_t* begin, size_t size) : next(begin), end(begin + size) {
        for (int i = 0; i < 4; ++i) value = value << 8 | byte();
    }
    uint32_t byte() {
        if (next < end) return *next++;
        ++beyond;
        return 0;
    }
    int code(int p, int) {
        uint32_t middle = cut(low, high, p);
        int bit = value <= middle;
        if (bit) high = middle; else low = middle + 1;
        for (; ((low ^ high) >> 24) == 0; low <<= 8, high = high << 8 | 255) value = value << 8 | byte();
        return bit;
    }
    bool whole() const { return next == end && beyond == 0; }
};

// A bit under several contexts at once: each has a slot, weights of the bit's set join them.
struct Mixed {
    int inputs;
    std::vector<uint32_t> slots;
    std::vector<int32_t> weights;  // [sets, inputs]
    Mixed(size_t slots_, size_t sets, int inputs_)
        : inputs(inputs_), slots(slots_, kFreshSlot), weights(sets * inputs_, kWeightOne * 5 / (4 * inputs_)) {}

    template <class Coder> int code(Coder& coder, const size_t* slot, size_t set, int bit) {
        const Tables& t = tables();
        int32_t* w = &weights[set * inputs];
        int stretched[kInputs];
        int64_t sum = 0;
        for (int i = 0; i < inputs; ++i) {
            stretched[i] = t.stretch[slots[slot[i]] >> 20];
            sum += int64_t(w[i]) * stretched[i];
        }
        int p = squash(sum >> 16);
        bit = coder.code(p, bit);
        int error = (bit << 16) - p;
        for (int i = 0; i < inputs; ++i) {
            w[i] += (stretched[i] * error + (1 << 13)) >> 14;
            uint32_t& s = slots[slot[i]];
            uint32_t count = s & 1023;
            int64_t apart = (bit ? (1 << 22) - 1 : 0) - int64_t(s >> 10);
            s = uint32_t(int64_t(s >> 10) + ((apart * t.reciprocal[count]) >> 16)) << 10 | (count + (count < uint32_t(kSlotLimit)));
        }
        return bit;
    }
};

}  // namespace nf
