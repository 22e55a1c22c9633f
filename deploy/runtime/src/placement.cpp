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
        if (!order_.allocate(n)) return kTooLarge;
        for (size_t i = 0; i < n; ++i) {  // insertion sort
            size_t at = i;
            for (; at > 0 && before(items_[i], items_[order_[at - 1]], rank); --at) order_[at] = order_[at - 1];
            order_[at] = static_cast<uint32_t>(i);
        }
        uint64_t arena = 0;
        for (placed_ = 0; placed_ < n; ++placed_) {
            const uint32_t index = order_[placed_];
            Item& item = items_[index];
            item.offset = lowest(index);
            if (item.offset + item.bytes > arena) arena = item.offset + item.bytes;
        }
        return arena;
    }

  private:
    static bool before(const Item& a, const Item& b, Rank rank) {
        const uint64_t x = rank(a), y = rank(b);
        return x != y ? x > y : a.bytes > b.bytes;
    }

    bool fits(uint32_t index, uint64_t offset) {
        Item item = items_[index];
        item.offset = offset;
        for (size_t i = 0; i < placed_; ++i) {
            const Item& other = items_[order_[i]];
            if (item.first > other.last || other.first > item.last || apart(item, other)) continue;
            if (item.over == order_[i] && other.offset >= item.offset + item.shift) continue;
            if (other.over == index && item.offset >= other.offset + other.shift) continue;
            return false;
        }
        return true;
    }

    // The lowest offset is 0, or touches an item placed before from above, or overlaps one as far as that is allowed.
    uint64_t lowest(uint32_t index) {
        if (fits(index, 0)) return 0;
        uint64_t best = kTooLarge;
        auto consider = [&](uint64_t offset) {
            if (offset < best && fits(index, offset)) best = offset;
        };
        for (size_t i = 0; i < placed_; ++i) {
            const Item& other = items_[order_[i]];
            consider(other.offset + other.bytes);
            if (items_[index].over == order_[i] && other.offset >= items_[index].shift)
                consider(other.offset - items_[index].shift);
            if (other.over == index) consider(other.offset + other.shift);
        }
        return best;
    }

    Array<Item>& items_;
    Array<uint32_t> order_;
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
