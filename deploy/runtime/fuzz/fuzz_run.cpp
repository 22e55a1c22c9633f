// Random graphs on every instruction set, scheme and number of threads against the scalar set: every tensor and the
// logits, bit for bit; where sums of floats are involved, to the tolerance that the format promises.
#include <math.h>
#include <stdlib.h>

#include <thread>

#include "session.h"
#include "target.h"

bool always_threads = false;
bool spoil = false;

namespace fuzz {
namespace {

constexpr size_t kDecisionBytes = 192;
constexpr double kTolerance = 1e-5;  // of the range of a sum of floats

bool same(float a, float b) {
    if (a != a || b != b) return a != a && b != b;  // the sign of a NaN is the processor's
    return memcmp(&a, &b, sizeof a) == 0;
}

double largest(const std::vector<float>& values) {
    double most = 0;
    for (float x : values) most = fabs(static_cast<double>(x)) > most ? fabs(static_cast<double>(x)) : most;
    return most;
}

// How far each operation's result may be from the scalar one: 0 is bit for bit, infinity is not compared.
std::vector<double> tolerances(const Graph& graph, const Outcome& scalar) {
    std::vector<double> tensor(graph.tensors.size(), 0), range(graph.tensors.size(), 0), result;
    range[0] = largest(graph.image);
    for (size_t i = 0; i < graph.ops.size(); ++i) {
        const OpNote& op = graph.ops[i];
        const TensorNote& out = graph.tensors[op.output];
        double before = 0, reach = 0, both = 0;
        for (uint32_t input : op.inputs) {
            before = tensor[input] > before ? tensor[input] : before;
            const TensorNote& note = graph.tensors[input];
            const double most = note.coded ? 256 : range[input];
            reach = most > reach ? most : reach;
            both += most;
        }
        double now = before;
        const bool has_sums = op.kind == uq::kConv || op.kind == uq::kAdd || op.kind == uq::kPointwise ||
                              op.kind == uq::kMul || (op.kind == uq::kUpsample && op.weight > 0 && op.slope > 0);
        if (op.float_sums) now = before + kTolerance * reach;
        // A difference in one factor is multiplied by the other.
        if (has_sums && now > 0) now = now * (op.kind == uq::kMul ? both : op.weight) * op.slope;
        if (!out.coded) range[op.output] = largest(scalar.values[i]);
        if (now > 0 && !out.coded) now += kTolerance * range[op.output];
        if (now != now || op.float_norm || (now > 0 && (out.coded || op.slope == 0) && has_sums) ||
            (now > 0 && op.kind == uq::kQuantize))
            now = INFINITY;
        tensor[op.output] = now;
        result.push_back(now);
    }
    return result;
}

std::string place(const TensorNote& note, size_t at) {
    const size_t plane = static_cast<size_t>(note.size[0]) * note.size[1] * note.size[2], p = at % plane;
    return "channel " + std::to_string(at / plane) + ", depth " + std::to_string(p / note.size[2] / note.size[1]) +
           ", row " + std::to_string(p / note.size[2] % note.size[1]) + ", column " + std::to_string(p % note.size[2]);
}

void compare(const Session& session, const Outcome& found, const Outcome& scalar, const std::vector<double>& allowed) {
    const Graph& graph = session.graph();
    for (size_t i = 0; i < graph.ops.size(); ++i) {
        const TensorNote& note = graph.tensors[graph.ops[i].output];
        const size_t count = scalar.codes[i].size() + scalar.values[i].size();
        size_t wrong = 0, first = 0;
        if (found.codes[i].size() != scalar.codes[i].size() || found.values[i].size() != scalar.values[i].size())
            finding(graph, session.way(), "operation %zu was not traced", i);
        if (allowed[i] == INFINITY) continue;
        for (size_t k = 0; k < count; ++k) {
            bool equal = note.coded
                             ? found.codes[i][k] == scalar.codes[i][k]
                             : same(found.values[i][k], scalar.values[i][k]) ||
                                   fabs(static_cast<double>(found.values[i][k]) - scalar.values[i][k]) <= allowed[i];
            if (!equal && wrong++ == 0) first = k;
        }
        if (!wrong) continue;
        const double was = note.coded ? scalar.codes[i][first] : scalar.values[i][first];
        const double is = note.coded ? found.codes[i][first] : found.values[i][first];
        finding(graph, session.way(),
                "operation %zu (%s; %s): %zu of %zu values differ from scalar; %s: %.9g became %.9g", i,
                graph.ops[i].text.c_str(), session.choice(static_cast<uint32_t>(i)).c_str(), wrong, count,
                place(note, first).c_str(), was, is);
    }
}

void expect_same(const Session& session, const Outcome& found, const Outcome& before, const char* what) {
    for (size_t i = 0; i < before.logits.size(); ++i)
        if (found.logits.size() != before.logits.size() || !same(found.logits[i], before.logits[i]))
            finding(session.graph(), session.way(), "%s: logit %zu became %.9g, it was %.9g", what, i,
                    static_cast<double>(found.logits[i]), static_cast<double>(before.logits[i]));
}

// One bit of one value of the last operation that is exact.
void spoil_one(Outcome* outcome, const std::vector<double>& allowed) {
    for (size_t i = allowed.size(); i-- > 0;) {
        if (allowed[i] != 0) continue;
        if (!outcome->codes[i].empty()) outcome->codes[i].back() ^= 1;
        if (!outcome->values[i].empty()) outcome->values[i].back() += 1.0f;
        return;
    }
}

// The same layout from two threads at once, each with an arena of its own.
void run_side_by_side(const Session& session, const Outcome& before) {
    Outcome results[2];
    std::thread other([&] { results[1] = session.run(false, 0x11); });
    results[0] = session.run(false, 0xEE);
    other.join();
    for (const Outcome& result : results) expect_same(session, result, before, "two threads at once");
}

std::vector<Way> ways(const Graph& graph, Source* source) {
    std::vector<Way> result;
    std::vector<const char*> schemes;
    for (const char* scheme : {"direct", "winograd", "bits", "lookup"})
        if (UQ_API_VERSION >= 2 && source->chance(50) && knows_scheme(graph, scheme)) schemes.push_back(scheme);
    for (uint32_t i = 0; const char* isa = uq_available_isa(i); ++i) {
        if (i > 0 || spoil) result.push_back(Way{isa, nullptr, 1});
        for (const char* scheme : schemes)
            if (i > 0 || source->chance(30)) result.push_back(Way{isa, scheme, 1});
        if (UQ_API_VERSION >= 2 && (always_threads || source->chance(15)))
            result.push_back(Way{isa, nullptr, source->between(2, 4)});
    }
    return result;
}

void check(const uint8_t* data, size_t bytes) {
    Source source(data, bytes);
    const Graph graph = random_graph(&source);
    const Session base(graph, Way{"scalar", nullptr, 1});
    const Outcome scalar = base.run(true, 0xA5);
    const std::vector<double> allowed = tolerances(graph, scalar);
    expect_same(base, base.run(false, 0xFF), scalar, "without on_tensor, in another arena");
    if (source.chance(10)) base.run(false, 0x5A, source.between(1, 9));
    for (const Way& way : ways(graph, &source)) {
        const Session session(graph, way);
        Outcome traced = session.run(true, 0x3C);
        if (spoil) spoil_one(&traced, allowed);
        compare(session, traced, scalar, allowed);
        expect_same(session, session.run(false, 0xFF), traced, "without on_tensor, in another arena");
        if (way.threads > 1) expect_same(session, session.run(false, 0x77, 0, true), traced, "without the pool");
        if (way.threads == 1 && (always_threads || source.chance(5))) run_side_by_side(session, traced);
    }
    if (always_threads) run_side_by_side(base, scalar);
}

}  // namespace
}  // namespace fuzz

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t bytes) {
    fuzz::check(data, bytes);
    return 0;
}

Bytes random_input(uint64_t seed, const std::vector<Bytes>&) {
    fuzz::Random random(seed);
    Bytes bytes(fuzz::kDecisionBytes);
    for (uint8_t& byte : bytes) byte = static_cast<uint8_t>(random.next() >> 56);
    return bytes;
}

namespace {

// The image as NumPy reads it: (1, channels, [depth,] height, width).
Bytes npy(const fuzz::Graph& graph) {
    std::string shape = "1, " + std::to_string(graph.tensors[0].channels);
    for (uint32_t a = graph.flat ? 1 : 0; a < 3; ++a) shape += ", " + std::to_string(graph.size[a]);
    std::string text = "{'descr': '<f4', 'fortran_order': False, 'shape': (" + shape + ")}";
    text.resize((10 + text.size() + 64) / 64 * 64 - 11, ' ');
    text += "\n";
    const uint8_t head[10] = {0x93,
                              'N',
                              'U',
                              'M',
                              'P',
                              'Y',
                              1,
                              0,
                              static_cast<uint8_t>(text.size() & 255),
                              static_cast<uint8_t>(text.size() >> 8)};
    Bytes bytes(head, head + sizeof head);
    bytes.insert(bytes.end(), text.begin(), text.end());
    const auto* values = reinterpret_cast<const uint8_t*>(graph.image.data());
    bytes.insert(bytes.end(), values, values + graph.image.size() * sizeof(float));
    return bytes;
}

}  // namespace

bool save_input(const Bytes& input, const std::string& prefix) {
    fuzz::Source source(input.data(), input.size());
    fuzz::Graph graph = fuzz::random_graph(&source);
    fuzz::Sections sections;
    uint32_t version = 0;
    if (!fuzz::take_apart(graph.file.data(), graph.file.size(), &sections, &version)) return false;
    sections[uq::kProvenance] = {'{', '}'};  // the fuzzer may leave it empty, the Python reader wants JSON
    graph.file = fuzz::assemble(sections, version);
    return fuzz::write_file(prefix + ".uqm", graph.file) && fuzz::write_file(prefix + ".npy", npy(graph));
}
