#include "numbers.h"

#include <float.h>
#include <math.h>
#include <string.h>

namespace tool {
namespace {

// IEEE 754 binary16; every value is a float32.
float half_of(uint16_t bits) {
    const int exponent = bits >> 10 & 31;
    const auto fraction = static_cast<float>(bits & 1023);
    float value = exponent == 0    ? ldexpf(fraction, -24)
                  : exponent == 31 ? (fraction > 0 ? NAN : INFINITY)
                                   : ldexpf(1024.0f + fraction, exponent - 25);
    return bits & 0x8000 ? -value : value;
}

uint64_t load(const uint8_t* p, unsigned bytes, bool big) {
    switch (bytes) {
        case 1:
            return *p;
        case 2:
            return load_16(p, big);
        case 4:
            return load_32(p, big);
        default:
            return load_64(p, big);
    }
}

bool usable(double value) {
    return fabs(value) <= static_cast<double>(FLT_MAX);  // false for NaN, too
}

struct Value {
    float rounded;
    double exact;  // as far as double reaches: 64-bit integers are rounded
};

Value value_of(const Numbers& n, const uint8_t* p) {
    const uint64_t bits = load(p, n.bytes, n.big_endian);
    if (n.kind == 'u') return {static_cast<float>(bits), static_cast<double>(bits)};
    if (n.kind == 'i') {
        const uint64_t sign = uint64_t{1} << (8 * n.bytes - 1);
        const auto number = static_cast<int64_t>((bits ^ sign) - sign);
        return {static_cast<float>(number), static_cast<double>(number)};
    }
    if (n.bytes == 8) {
        const double number = double_of(bits);
        return {usable(number) ? static_cast<float>(number) : NAN, number};
    }
    const float number = n.bytes == 4 ? float_of(static_cast<uint32_t>(bits)) : half_of(static_cast<uint16_t>(bits));
    return {number, static_cast<double>(number)};
}

}  // namespace

float float_of(uint32_t bits) {
    float value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

double double_of(uint64_t bits) {
    double value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

size_t to_floats(const Numbers& numbers, const uint8_t* src, size_t count, float* dst, size_t step, Seen* seen) {
    const bool checked = numbers.kind == 'f' || numbers.scaled;
    for (size_t i = 0; i < count; ++i, src += numbers.bytes) {
        Value value = value_of(numbers, src);
        if (numbers.scaled) {
            if (numbers.slope != 1.0) value.exact *= numbers.slope;
            if (numbers.intercept != 0.0) value.exact += numbers.intercept;
        }
        if (checked && !usable(value.exact)) return i;
        if (numbers.scaled) value.rounded = static_cast<float>(value.exact);
        dst[i * step] = value.rounded;
        seen->add(value.exact);
    }
    return count;
}

}  // namespace tool
