// Scratch memory of one thread, kept between calls: a hot loop never allocates.
#pragma once
#include <stdlib.h>

#include "lanes.h"

namespace nf {
namespace NF_ISA {

class Scratch {
  public:
    // Frees all allocations and makes room for `bytes`.
    void reset(size_t bytes) {
        used_ = 0;
        if (bytes <= size_) return;
        free(data_);
        size_ = (bytes + 4095) / 4096 * 4096;
        if (posix_memalign(reinterpret_cast<void**>(&data_), 64, size_)) abort();
    }
    template <class T> T* take(i64 count) {
        T* p = reinterpret_cast<T*>(data_ + used_);
        used_ += (size_t(count) * sizeof(T) + 63) / 64 * 64;
        if (used_ > size_) abort();
        return p;
    }
    ~Scratch() { free(data_); }

  private:
    char* data_ = nullptr;
    size_t size_ = 0, used_ = 0;
};

inline Scratch& thread_scratch() {
    static thread_local Scratch scratch;
    return scratch;
}

}  // namespace NF_ISA
}  // namespace nf
