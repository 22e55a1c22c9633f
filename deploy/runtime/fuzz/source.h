// Where the fuzz targets take their decisions and their numbers from: the fuzzer's bytes, and pseudo-random ones that
// follow from the first eight of them. A mutated byte changes one decision, and a short input still makes a whole
// graph.
#ifndef UNETQ_FUZZ_SOURCE_H
#define UNETQ_FUZZ_SOURCE_H

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <initializer_list>

namespace fuzz {

// SplitMix64: one multiply-and-shift round a number, every seed a sequence of its own.
class Random {
  public:
    explicit Random(uint64_t seed) : state_(seed) {}

    uint64_t next() {
        uint64_t z = state_ += 0x9E3779B97F4A7C15ull;
        z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
        z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
        return z ^ (z >> 31);
    }
    uint32_t below(uint32_t count) { return static_cast<uint32_t>((next() >> 32) * count >> 32); }
    bool chance(uint32_t percent) { return below(100) < percent; }
    float unit() { return static_cast<float>(next() >> 40) / 16777216.0f; }  // 0 <= x < 1
    float spread() {                                                         // about normal, never far from 0
        return (unit() + unit() + unit() + unit() - 2.0f) * 1.75f;
    }

  private:
    uint64_t state_;
};

class Source {
  public:
    Source(const uint8_t* data, size_t bytes) : numbers_(0), data_(data), bytes_(bytes) {
        uint64_t seed = 0;
        const size_t head = bytes < sizeof seed ? bytes : sizeof seed;
        if (head) memcpy(&seed, data, head);
        at_ = head;
        numbers_ = Random(seed);
    }

    // Decisions: from the bytes as long as there are some.
    uint32_t byte() { return at_ < bytes_ ? data_[at_++] : numbers_.below(256); }
    uint32_t below(uint32_t count) {
        if (count <= 1) return 0;
        const uint32_t value = count <= 256 ? byte() : byte() << 8 | byte();
        return count <= 256 ? value % count : value % (count < 65536 ? count : 65536);
    }
    uint32_t between(uint32_t low, uint32_t high) { return low + below(high - low + 1); }
    bool chance(uint32_t percent) { return byte() * 100 < percent * 256; }
    template <typename T>
    T pick(std::initializer_list<T> choices) {
        return choices.begin()[below(static_cast<uint32_t>(choices.size()))];
    }

    // Numbers by the thousand: weights, parameters, images.
    Random& numbers() { return numbers_; }

  private:
    Random numbers_;
    const uint8_t* data_;
    size_t bytes_;
    size_t at_ = 0;
};

}  // namespace fuzz

#endif
