// What the kernel tests share: random numbers from one seed, memory that ends at a forbidden page, and the report.
#ifndef UNETQ_TESTS_CHECK_H
#define UNETQ_TESTS_CHECK_H

#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <string>
#include <vector>

#include "../../src/kernels/kernels.h"

// splitmix64.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}
    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15u;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9u;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBu;
        return z ^ (z >> 31);
    }
    int64_t between(int64_t low, int64_t high) {
        return low + static_cast<int64_t>(next() % static_cast<uint64_t>(high - low + 1));
    }
    bool one_in(uint32_t n) { return next() % n == 0; }
    float real() { return static_cast<float>(static_cast<double>(next() >> 11) * 0x1p-53 * 2 - 1); }  // -1 ... 1
    template <typename T, size_t N>
    T pick(const T (&choices)[N]) {
        return choices[next() % N];
    }

  private:
    uint64_t state_;
};

// Values that end at a page nobody may touch: reading or writing beyond them is a fault. What lies before them in
// their page is 0xA5, and looked at when the buffer goes.
template <typename T>
class Guarded {
  public:
    explicit Guarded(size_t count, uint8_t fill = 0xA5) : count_(count) {
        const size_t page = static_cast<size_t>(sysconf(_SC_PAGESIZE)), bytes = count * sizeof(T);
        room_ = (bytes + page - 1) / page * page + page;
        void* base = mmap(nullptr, room_ + page, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (base == MAP_FAILED || mprotect(static_cast<char*>(base) + room_, page, PROT_NONE) != 0) {
            perror("kernels: no memory for a test");
            _exit(2);
        }
        base_ = static_cast<uint8_t*>(base);
        whole_ = room_ + page;
        memset(base_, 0xA5, room_);
        memset(data(), fill, bytes);
    }
    ~Guarded() { munmap(base_, whole_); }
    Guarded(const Guarded&) = delete;
    Guarded& operator=(const Guarded&) = delete;

    T* data() { return reinterpret_cast<T*>(base_ + room_ - count_ * sizeof(T)); }
    T& operator[](size_t i) { return data()[i]; }
    size_t size() const { return count_; }
    bool front_is_whole() const {
        for (size_t i = 0; i < room_ - count_ * sizeof(T); ++i)
            if (base_[i] != 0xA5) return false;
        return true;
    }

  private:
    uint8_t* base_;
    size_t room_, whole_, count_;
};

// One kernel of one instruction set: counts cases, prints the first mismatches of the first failing ones.
class Report {
  public:
    Report(const char* isa, const char* kernel) : isa_(isa), kernel_(kernel) {}
    ~Report();
    void next_case(uint64_t seed, const std::string& shape) {
        ++cases_;
        seed_ = seed;
        shape_ = shape;
        shown_ = 0;
        bad_ = false;
    }
    void mismatch(size_t at, double expected, double found, const char* what = "");
    // Bitwise, so that -0 and NaN count.
    template <typename T>
    void same(const T* expected, const T* found, size_t count, const char* what = "") {
        if (memcmp(expected, found, count * sizeof(T)) == 0) return;
        for (size_t i = 0; i < count; ++i)
            if (memcmp(expected + i, found + i, sizeof(T)) != 0)
                mismatch(i, static_cast<double>(expected[i]), static_cast<double>(found[i]), what);
    }
    template <typename T>
    void whole(const Guarded<T>& buffer) {
        if (!buffer.front_is_whole()) mismatch(0, 0xA5, 0, "written in front of the output");
    }

  private:
    const char* isa_;
    const char* kernel_;
    uint64_t seed_ = 0;
    std::string shape_;
    unsigned cases_ = 0, failed_ = 0, shown_ = 0;
    bool bad_ = false;
};

extern unsigned total_failures;
std::string text(const char* format, ...) __attribute__((format(printf, 1, 2)));

// Each tests a part of *kernels against *scalar (and plain arithmetic), rounds times; seeds derive from seed.
void test_byte_convs(const uq::Kernels& kernels, uint64_t seed, uint32_t rounds);
void test_emulated_amx(uint64_t seed, uint32_t rounds);
void test_bit_convs(const uq::Kernels& kernels, uint64_t seed, uint32_t rounds);
void test_lookup_convs(const uq::Kernels& kernels, uint64_t seed, uint32_t rounds);
void test_thresholds(const uq::Kernels& kernels, uint64_t seed, uint32_t rounds);
void test_wide_convs(const uq::Kernels& kernels, const uq::Kernels& scalar, uint64_t seed, uint32_t rounds);
void test_winograd(const uq::Kernels& kernels, const uq::Kernels& scalar, uint64_t seed, uint32_t rounds);
void test_epilogues(const uq::Kernels& kernels, const uq::Kernels& scalar, uint64_t seed, uint32_t rounds);
void test_rows(const uq::Kernels& kernels, const uq::Kernels& scalar, uint64_t seed, uint32_t rounds);

#endif
