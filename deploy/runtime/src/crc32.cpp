#include "crc32.h"

namespace uq {
namespace {

// table[0] advances by one byte; table[k] by one byte followed by k zero bytes, so that eight bytes can be looked up
// independently and combined (a CRC is linear over XOR).
struct Tables {
    uint32_t table[8][256];

    constexpr Tables() : table() {
        for (uint32_t i = 0; i < 256; ++i) {
            uint32_t value = i;
            for (int bit = 0; bit < 8; ++bit) value = (value >> 1) ^ ((value & 1) ? 0xEDB88320u : 0u);
            table[0][i] = value;
        }
        for (uint32_t i = 0; i < 256; ++i)
            for (int k = 1; k < 8; ++k) table[k][i] = (table[k - 1][i] >> 8) ^ table[0][table[k - 1][i] & 255];
    }
};

constexpr Tables kTables;

}  // namespace

uint32_t crc32(uint32_t seed, const uint8_t* data, size_t bytes) {
    const auto& t = kTables.table;
    uint32_t crc = ~seed;
    for (; bytes >= 8; bytes -= 8, data += 8) {
        uint32_t low = crc ^ (static_cast<uint32_t>(data[0]) | static_cast<uint32_t>(data[1]) << 8 |
                              static_cast<uint32_t>(data[2]) << 16 | static_cast<uint32_t>(data[3]) << 24);
        crc = t[7][low & 255] ^ t[6][(low >> 8) & 255] ^ t[5][(low >> 16) & 255] ^ t[4][low >> 24] ^ t[3][data[4]] ^
              t[2][data[5]] ^ t[1][data[6]] ^ t[0][data[7]];
    }
    for (; bytes; --bytes, ++data) crc = (crc >> 8) ^ t[0][(crc ^ *data) & 255];
    return ~crc;
}

}  // namespace uq
