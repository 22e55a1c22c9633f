// A random model that FORMAT.md allows, an image for it, and what may be expected of its tensors.
#ifndef UNETQ_FUZZ_GRAPH_H
#define UNETQ_FUZZ_GRAPH_H

#include <string>
#include <vector>

#include "model_writer.h"
#include "source.h"

namespace fuzz {

struct Grid {
    uint32_t bits;
    bool is_signed;
    bool toward_zero;
    bool narrow;
    bool dynamic;
    uint32_t zero_point;
    float scale;

    int32_t low() const { return is_signed ? -(1 << (bits - 1)) + (toward_zero || narrow ? 1 : 0) : 0; }
    int32_t high() const { return is_signed ? (1 << (bits - 1)) - 1 : (1 << bits) - 1; }
    double reach() const { return (high() - low() + 1) * static_cast<double>(scale); }
};

struct TensorNote {
    uint32_t channels;
    bool coded;
    Grid grid;  // where coded
    uint32_t size[3];
};

// How far a difference in an operation's inputs can go. Everything on codes is exact; so is float32 arithmetic number
// by number. Only sums of floats depend on the order of a kernel.
struct OpNote {
    uint32_t kind;
    std::vector<uint32_t> inputs;
    uint32_t output;
    bool float_sums;  // sums many floats: a tolerance only
    bool float_norm;  // instance norm over floats: nothing is promised
    double weight;    // largest sum of |weights| of one output
    double slope;     // largest factor of the epilogue
    std::string text;
};

struct Graph {
    Bytes file;
    bool flat;  // a 2-D model
    uint32_t size[3];
    std::vector<float> image;
    std::vector<TensorNote> tensors;
    std::vector<OpNote> ops;
};

Graph random_graph(Source* source);

}  // namespace fuzz

#endif
