// One way of running a graph: an instruction set, a scheme, a number of threads. Everything it allocates is exactly as
// large as the library asked for, so that a byte beyond is seen by AddressSanitizer, or by guard bytes without it.
#ifndef UNETQ_FUZZ_SESSION_H
#define UNETQ_FUZZ_SESSION_H

#include <stddef.h>
#include <stdint.h>

#include <string>
#include <vector>

#include "graph.h"
#include "unetq.h"

namespace fuzz {

class Block {
  public:
    // skew: bytes behind an alignment of 64, to hand out what is only just aligned enough.
    Block(uint64_t bytes, size_t skew, uint8_t fill);
    ~Block();
    Block(const Block&) = delete;
    Block& operator=(const Block&) = delete;

    uint8_t* data() const { return data_; }
    bool guards_whole() const;

  private:
    uint8_t* base_;
    uint8_t* data_;
    uint64_t bytes_;
};

// The result of one run: the logits and, where it was traced, every tensor by operation.
struct Outcome {
    uq_status status;
    std::vector<float> logits;
    std::vector<std::vector<float>> values;  // float32 tensors, an operation each
    std::vector<std::vector<int16_t>> codes;
};

struct Way {
    const char* isa;
    const char* scheme;  // null: the library's choice
    uint32_t threads;

    std::string text() const;
};

class Session {
  public:
    Session(const Graph& graph, const Way& way);
    ~Session();
    Session(const Session&) = delete;
    Session& operator=(const Session&) = delete;

    // garbage fills the arena and the output before the run. cancel_after: progress calls until it cancels, 0 never.
    // alone: without the pool, though the layout was planned for more threads.
    Outcome run(bool traced, uint8_t garbage, uint64_t cancel_after = 0, bool alone = false) const;
    const Graph& graph() const { return graph_; }
    const Way& way() const { return way_; }
    // What the library says of an operation's kernel; empty where it has no such question.
    std::string choice(uint32_t op) const;

  private:
    void check_layout();

    const Graph& graph_;
    Way way_;
    uq_model* model_ = nullptr;
    uq_layout* layout_ = nullptr;
    uq_layout_info info_ = {};
#if UQ_API_VERSION >= 2
    uq_pool* pool_ = nullptr;
#endif
};

// Whether the library can be forced to a scheme (UNETQ_SCHEME).
bool knows_scheme(const Graph& graph, const char* scheme);

// Prints the graph, the way and a sentence, then aborts.
[[noreturn]] void finding(const Graph& graph, const Way& way, const char* format, ...)
    __attribute__((format(printf, 3, 4)));

}  // namespace fuzz

#endif
