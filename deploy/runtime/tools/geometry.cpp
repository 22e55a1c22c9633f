#include "geometry.h"

#include <float.h>
#include <math.h>
#include <string.h>

namespace tool {
namespace {

constexpr double kSmallestVolume = 1e-3;  // of a unit cell: below it two axes are one
constexpr int kMostSteps = 100;
const char kPairs[3][3] = {"LR", "PA", "IS"};  // where the axes of RAS begin and end

double determinant(const double m[3][3]) {
    return m[0][0] * (m[1][1] * m[2][2] - m[1][2] * m[2][1]) - m[0][1] * (m[1][0] * m[2][2] - m[1][2] * m[2][0]) +
           m[0][2] * (m[1][0] * m[2][1] - m[1][1] * m[2][0]);
}

// The orthogonal matrix nearest to m (its polar factor), by Newton's iteration: the mean of m and its inverse
// transposed, until nothing changes (N. J. Higham, SIAM J. Sci. Stat. Comput. 7, 1986, section 3).
void make_orthogonal(double m[3][3]) {
    for (int step = 0; step < kMostSteps; ++step) {
        const double det = determinant(m);
        double next[3][3], change = 0;
        for (int i = 0; i < 3; ++i)
            for (int j = 0; j < 3; ++j) {
                const int a = (i + 1) % 3, b = (i + 2) % 3, c = (j + 1) % 3, d = (j + 2) % 3;
                const double cofactor = m[a][c] * m[b][d] - m[a][d] * m[b][c];
                next[i][j] = 0.5 * (m[i][j] + cofactor / det);
                change = fmax(change, fabs(next[i][j] - m[i][j]));
            }
        memcpy(m, next, sizeof next);
        if (change < 4 * DBL_EPSILON) return;
    }
}

// The axes code of a rotation: columns one after another from the one with the largest entry on, each takes its
// largest entry among the directions that are left.
void name_axes(const double m[3][3], char axes[4]) {
    double largest[3];
    for (int column = 0; column < 3; ++column)
        largest[column] = fmax(fmax(fabs(m[0][column]), fabs(m[1][column])), fabs(m[2][column]));
    bool named[3] = {}, taken[3] = {};
    for (int turn = 0; turn < 3; ++turn) {
        int column = -1, row = -1;
        for (int i = 0; i < 3; ++i)
            if (!named[i] && (column < 0 || largest[i] > largest[column])) column = i;
        for (int i = 0; i < 3; ++i)
            if (!taken[i] && (row < 0 || fabs(m[i][column]) > fabs(m[row][column]))) row = i;
        named[column] = taken[row] = true;
        axes[column] = kPairs[row][m[row][column] < 0 ? 0 : 1];
    }
    axes[3] = 0;
}

int pair_of(char letter) {
    for (int pair = 0; pair < 3; ++pair)
        if (letter && (letter == kPairs[pair][0] || letter == kPairs[pair][1])) return pair;
    return -1;
}

}  // namespace

Fault geometry_of(const double affine[3][4], Geometry* geometry) {
    double m[3][3], length[3];
    for (int i = 0; i < 3; ++i)
        for (int j = 0; j < 4; ++j)
            if (!isfinite(affine[i][j])) return Fault::kNotFinite;
    for (int j = 0; j < 3; ++j) {
        length[j] = sqrt(affine[0][j] * affine[0][j] + affine[1][j] * affine[1][j] + affine[2][j] * affine[2][j]);
        if (!(length[j] > 0)) return Fault::kNoLength;
        for (int i = 0; i < 3; ++i) m[i][j] = affine[i][j] / length[j];
    }
    if (!(fabs(determinant(m)) >= kSmallestVolume)) return Fault::kFlat;
    make_orthogonal(m);
    name_axes(m, geometry->axes);
    geometry->sized = true;
    for (int a = 0; a < 3; ++a) geometry->spacing[a] = length[(a + 2) % 3];
    return Fault::kNone;
}

bool is_axes(const char* text) {
    if (strlen(text) != 3) return false;
    int seen = 0;
    for (int i = 0; i < 3; ++i) {
        if (pair_of(text[i]) < 0) return false;
        seen |= 1 << pair_of(text[i]);
    }
    return seen == 7;
}

Turn find_turn(const char* axes, const char* orientation) {
    Turn turn = {{0, 1, 2}, {false, false, false}};
    if (!*orientation) return turn;
    for (uint32_t a = 0; a < 3; ++a)
        for (uint32_t stored = 0; stored < 3; ++stored) {
            // Codes begin with rows, axes with slices.
            const char want = orientation[(a + 2) % 3], have = axes[(stored + 2) % 3];
            if (pair_of(want) != pair_of(have)) continue;
            turn.axis[a] = stored;
            turn.flip[a] = want != have;
        }
    return turn;
}

Walk walk_there(const Turn& turn, const uint32_t size[3]) {
    Walk walk = {0, {0, 0, 0}};
    int64_t step = 1;
    for (uint32_t a = 3; a-- > 0;) {
        const uint32_t stored = turn.axis[a];
        walk.step[stored] = turn.flip[a] ? -step : step;
        if (turn.flip[a]) walk.first += step * (int64_t{size[stored]} - 1);
        step *= size[stored];
    }
    return walk;
}

Walk walk_back(const Turn& turn, const uint32_t size[3]) {
    const int64_t steps[3] = {int64_t{size[1]} * size[2], size[2], 1};
    Walk walk = {0, {0, 0, 0}};
    for (uint32_t a = 0; a < 3; ++a) {
        const uint32_t stored = turn.axis[a];
        walk.step[a] = turn.flip[a] ? -steps[stored] : steps[stored];
        if (turn.flip[a]) walk.first += steps[stored] * (int64_t{size[stored]} - 1);
    }
    return walk;
}

}  // namespace tool
