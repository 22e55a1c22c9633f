// One after the other, each as low as it can lie beside those placed before it; of several orders the best is taken.
#include "placement.h"

namespace uq {
namespace {

bool apart(const Item& a, const Item& b) {
    return a.offset + a.bytes <= b.offset || b.offset + b.bytes <= a.offset;
}

uint64_t by_size(const Item& item) {
    return item.bytes;
}
uint64_t by_time(const Item& item) {
    return UINT32_MAX - item.first;
}
uint64_t by_life(const Item& item) {
    return item.last - item.first;
}
uint64_t by_area(const Item& item) {
    return product(item.bytes, item.last - item.first + 1);
}

using Rank = uint64_t (*)(const Item&);
constexpr Rank kRanks[] = {by_size, by_area, by_life, by_time};

class Placer {
  public:
    explicit Placer(Array<Item>* items) : items_(*items) {}

    // By rank falling, and among equals by size.
    uint64_t place(Rank rank) {
        const size_t n = items_.size();
        if (n == 0) return 0;
        if (!order_.allocate(n) || !by_offset_.allocate(n)) return kTooLarge;
        for (size_t i = 0; i < n; ++i) {  // insertion sort
            size_t at = i;
            for (; at > 0 && before(items_[i], items_[order_[at - 1]], rank); --at) order_[at] = order_[at - 1];
            order_[at] = static_cast<uint32_t>(i);
        }
        uint64_t arena = 0;
        placed_ = 0;
        for (size_t i = 0; i < n; ++i) {
            const uint32_t index = order_[i];
            Item& item = items_[index];
            item.offset = lowest(index);
            if (item.offset + item.bytes > arena) arena = item.offset + item.bytes;
            add_placed(index);
        }
        return arena;
    }

  private:
    static bool before(const Item& a, const Item& b, Rank rank) {
        const uint64_t x = rank(a), y = rank(b);
        return x != y ? x > y : a.bytes > b.bytes;
    }

    // Where two that are alive at once and lie in each other's way, other comes to its end; 0 where they do not.
    uint64_t end_of_conflict(const Item& item, uint32_t index, uint32_t placed) const {
        const Item& other = items_[placed];
        if (item.first > other.last || other.first > item.last || apart(item, other)) return 0;
        if (item.over == placed && other.offset >= item.offset + item.shift) return 0;
        const bool under = other.over == index && other.shift < other.bytes;
        const uint64_t end = other.offset + (under ? other.shift : other.bytes);
        return item.offset < end ? end : 0;
    }

    // The lowest offset is 0, or the end of an item placed before. Going up through these by their offsets, few are
    // met twice.
    uint64_t lowest(uint32_t index) const {
        Item item = items_[index];
        item.offset = 0;
        for (bool moved = true; moved;) {
            moved = false;
            for (size_t i = 0; i < placed_; ++i) {
                const uint64_t end = end_of_conflict(item, index, by_offset_[i]);
                if (end) item.offset = end, moved = true;
            }
        }
        return item.offset;
    }

    void add_placed(uint32_t index) {
        size_t at = placed_++;
        for (; at > 0 && items_[by_offset_[at - 1]].offset > items_[index].offset; --at)
            by_offset_[at] = by_offset_[at - 1];
        by_offset_[at] = index;
    }

    Array<Item>& items_;
    Array<uint32_t> order_;
    Array<uint32_t> by_offset_;  // those placed
    size_t placed_ = 0;
};

}  // namespace

uint64_t place_items(Array<Item>* items) {
    Placer placer(items);
    Rank best = kRanks[0];
    uint64_t least = kTooLarge;
    for (Rank rank : kRanks) {
        const uint64_t arena = placer.place(rank);
        if (arena >= least) continue;
        least = arena;
        best = rank;
    }
    return placer.place(best);
}

}  // namespace uq
