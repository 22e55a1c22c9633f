// Small tools shared by the loader, the planner and the operations: an owning array without exceptions, alignment.
#ifndef UNETQ_COMMON_H
#define UNETQ_COMMON_H

#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

// Under AddressSanitizer the pieces of working memory have poisoned gaps between them, and so have tensors: what is
// written beyond one would otherwise only be seen where it happens to hurt.
#if defined(__SANITIZE_ADDRESS__)
#define UQ_RED_ZONES
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define UQ_RED_ZONES
#endif
#endif
#ifdef UQ_RED_ZONES
#include <sanitizer/asan_interface.h>
#endif

namespace uq {

constexpr uint64_t kAlignment = 64;
#ifdef UQ_RED_ZONES
constexpr uint64_t kRedZone = 64;
#else
constexpr uint64_t kRedZone = 0;
#endif
constexpr uint64_t kTooLarge = UINT64_MAX;

inline uint64_t padded(uint64_t bytes) {
    return (bytes + kAlignment - 1) / kAlignment * kAlignment;
}

inline uint32_t round_up(uint32_t value, uint32_t step) {
    return (value + step - 1) / step * step;
}

// Product that sticks at kTooLarge instead of wrapping.
inline uint64_t product(uint64_t a, uint64_t b) {
    if (a == kTooLarge || b == kTooLarge) return kTooLarge;
    if (a != 0 && b > (kTooLarge - 1) / a) return kTooLarge;
    return a * b;
}

// Floor and ceiling of a / b for b > 0 and a of any sign.
inline int64_t floor_div(int64_t a, int64_t b) {
    return a >= 0 ? a / b : -((-a + b - 1) / b);
}
inline int64_t remainder(int64_t a, int64_t b) {
    return a - floor_div(a, b) * b;
}

// A zero-filled array that owns its memory. Only for types that are valid as zero bytes or are Arrays themselves.
template <typename T>
class Array {
  public:
    Array() = default;
    Array(const Array&) = delete;
    Array& operator=(const Array&) = delete;
    ~Array() { clear(); }

    // Replaces the content; false when there is no memory.
    bool allocate(size_t count) {
        clear();
        if (count == 0) return true;
        data_ = static_cast<T*>(calloc(count, sizeof(T)));
        size_ = data_ ? count : 0;
        return data_ != nullptr;
    }

    // Appends, doubling the room; false when there is no memory. Only for trivially copyable types.
    bool append(const T& value) {
        if (size_ == room_) {
            size_t room = room_ ? 2 * room_ : 8;
            T* grown = static_cast<T*>(realloc(data_, room * sizeof(T)));
            if (!grown) return false;
            data_ = grown;
            room_ = room;
        }
        data_[size_++] = value;
        return true;
    }

    void clear() {
        for (size_t i = 0; i < size_; ++i) data_[i].~T();
        free(data_);
        data_ = nullptr;
        size_ = room_ = 0;
    }

    T& operator[](size_t i) { return data_[i]; }
    const T& operator[](size_t i) const { return data_[i]; }
    T* data() { return data_; }
    const T* data() const { return data_; }
    size_t size() const { return size_; }

  private:
    T* data_ = nullptr;
    size_t size_ = 0;
    size_t room_ = 0;
};

// Hands out aligned pieces of one working memory. Without a base it only counts, so that the planner and the
// operation share one piece of code and can never disagree.
class Carver {
  public:
    explicit Carver(uint8_t* base) : base_(base) {}

    template <typename T>
    T* take(uint64_t count) {
        uint64_t at = used_;
        uint64_t bytes = product(count, sizeof(T));
        used_ =
            (used_ == kTooLarge || bytes > kTooLarge / 4) ? kTooLarge : used_ + padded(bytes) + (bytes ? kRedZone : 0);
#ifdef UQ_RED_ZONES
        if (base_ && bytes) __asan_poison_memory_region(base_ + used_ - kRedZone, kRedZone);
#endif
        return base_ ? reinterpret_cast<T*>(base_ + at) : nullptr;
    }

    uint64_t used() const { return used_; }

  private:
    uint8_t* base_;
    uint64_t used_ = 0;
};

}  // namespace uq

#endif
