// Where a NIfTI volume lies: the sform where its code is positive, else the qform where its code is, else the voxel
// sizes alone, which tell no direction; unknown codes, negative sizes and other oddities as nibabel takes them.
#include <float.h>
#include <math.h>
#include <stdio.h>

#include "nifti.h"

namespace tool {
namespace {

constexpr int kMetres = 1, kMicrometres = 3;  // xyzt_units; others are taken as mm
constexpr int kMostForm = 5;                  // the codes of forms

// Where the fields of the two versions lie; all reals are of one kind.
struct Fields {
    size_t sizes, units, qform_code, sform_code, quaternion, origin, rows, unit_bytes;
};
constexpr Fields kFirst = {76, 123, 252, 254, 256, 268, 280, 1};
constexpr Fields kSecond = {104, 500, 344, 348, 352, 376, 400, 4};

struct Reader {
    const NiftiHeader& header;
    const Fields& at;

    bool second() const { return header.bytes == 540; }
    double real(size_t first, unsigned index) const {
        if (second()) return double_of(load_64(header.raw + first + 8 * index, header.big_endian));
        return static_cast<double>(float_of(load_32(header.raw + first + 4 * index, header.big_endian)));
    }
    int form(size_t place) const {
        const int64_t code = second() ? static_cast<int32_t>(load_32(header.raw + place, header.big_endian))
                                      : static_cast<int16_t>(load_16(header.raw + place, header.big_endian));
        return code > 0 && code <= kMostForm ? static_cast<int>(code) : 0;
    }
    // Millimetres a unit.
    double unit() const {
        const uint32_t code = second() ? load_32(header.raw + at.units, header.big_endian) : header.raw[at.units];
        return (code & 7) == kMetres ? 1000.0 : (code & 7) == kMicrometres ? 0.001 : 1.0;
    }
    double size(unsigned axis) const {
        const double length = fabs(real(at.sizes, axis + 1));
        return length == 0 ? 1.0 : length;
    }
};

void from_sizes(const Reader& r, unsigned axes, double affine[3][4]) {
    for (unsigned a = 0; a < 3; ++a) affine[a][a] = a < axes ? r.size(a) : 1.0;
}

void from_sform(const Reader& r, double affine[3][4]) {
    for (unsigned i = 0; i < 12; ++i) affine[i / 4][i % 4] = r.real(r.at.rows, i);
}

// The rotation of the unit quaternion (w, x, y, z), of which w is left out; false where the others are longer than 1.
bool from_qform(const Reader& r, double affine[3][4]) {
    double q[4] = {0, r.real(r.at.quaternion, 0), r.real(r.at.quaternion, 1), r.real(r.at.quaternion, 2)};
    const double square = 1.0 - (q[1] * q[1] + q[2] * q[2] + q[3] * q[3]);
    const double near = 3.0 * (r.second() ? DBL_EPSILON : static_cast<double>(FLT_EPSILON));
    if (fabs(square) >= near) {
        if (!(square > 0)) return false;
        q[0] = sqrt(square);
    }
    const double norm = q[0] * q[0] + q[1] * q[1] + q[2] * q[2] + q[3] * q[3], s = 2.0 / norm;
    const double w = q[0], x = q[1], y = q[2], z = q[3];
    const double m[3][3] = {{1.0 - (y * y + z * z) * s, (x * y - w * z) * s, (x * z + w * y) * s},
                            {(x * y + w * z) * s, 1.0 - (x * x + z * z) * s, (y * z - w * x) * s},
                            {(x * z - w * y) * s, (y * z + w * x) * s, 1.0 - (x * x + y * y) * s}};
    const double hand = r.real(r.at.sizes, 0) == -1.0 ? -1.0 : 1.0;
    for (unsigned i = 0; i < 3; ++i) {
        for (unsigned j = 0; j < 3; ++j) affine[i][j] = m[i][j] * r.size(j) * (j == 2 ? hand : 1.0);
        affine[i][3] = r.real(r.at.origin, i);
    }
    return true;
}

void scale(double by, double affine[3][4]) {
    for (unsigned i = 0; i < 12; ++i) affine[i / 4][i % 4] *= by;
}

// How far apart two affines put a corner of the grid, at most: there they differ most.
double largest_distance(const int64_t length[3], const double a[3][4], const double b[3][4]) {
    double most = 0;
    for (unsigned corner = 0; corner < 8; ++corner) {
        double square = 0;
        for (unsigned i = 0; i < 3; ++i) {
            double apart = a[i][3] - b[i][3];
            for (unsigned j = 0; j < 3; ++j)
                if (corner >> j & 1) apart += static_cast<double>(length[j] - 1) * (a[i][j] - b[i][j]);
            square += apart * apart;
        }
        most = fmax(most, sqrt(square));
    }
    return most;
}

// Both forms are said to hold; the sform is taken.
void compare_forms(const Reader& r, const int64_t length[3], const double sform[3][4], Image* image) {
    const double* spacing = image->geometry.spacing;
    const double limit = fmin(fmin(spacing[0], spacing[1]), spacing[2]) / 10;
    double qform[3][4] = {};
    const bool made = from_qform(r, qform);
    scale(r.unit(), qform);
    const double distance = made ? largest_distance(length, sform, qform) : INFINITY;
    if (distance <= limit) return;
    char told[80] = "disagree: the qform cannot be used";
    if (made) snprintf(told, sizeof told, "put a corner of the grid %.3g mm apart", distance);
    snprintf(image->warning, sizeof image->warning,
             "its sform and qform, both with a positive code, %s; the sform is used.", told);
}

}  // namespace

Exit read_place(const NiftiHeader& header, unsigned axes, const int64_t length[3], Image* image) {
    const char* path = image->file.path;
    const Reader r = {header, header.bytes == 540 ? kSecond : kFirst};
    const bool sform = r.form(r.at.sform_code) > 0, qform = r.form(r.at.qform_code) > 0;
    double affine[3][4] = {};
    for (unsigned a = 0; a < 3 && !sform; ++a)
        if (length[a] > 1 && r.real(r.at.sizes, a + 1) == 0)
            return fail(kImage,
                        "%.400s: its voxels are %g x %g x %g mm (pixdim): sizes are above 0; repair the header.", path,
                        r.real(r.at.sizes, 1), r.real(r.at.sizes, 2), r.real(r.at.sizes, 3));
    if (sform)
        from_sform(r, affine);
    else if (!qform)
        from_sizes(r, axes, affine);
    else if (!from_qform(r, affine))
        return fail(kImage, "%.400s: its qform cannot be used: the quaternion is longer than 1; repair the header.",
                    path);
    scale(r.unit(), affine);
    const char* source = sform ? "sform" : qform ? "qform" : "pixdim";
    switch (geometry_of(affine, &image->geometry)) {
        case Fault::kNone:
            break;
        case Fault::kNotFinite:
            return fail(kImage, "%.400s: its %s cannot be used: finite numbers are expected; repair the header.", path,
                        source);
        case Fault::kNoLength:
            return fail(kImage, "%.400s: its %s cannot be used: an axis of length 0 spans no space; repair the header.",
                        path, source);
        case Fault::kFlat:
            return fail(kImage, "%.400s: its %s cannot be used: its three axes lie in one plane; repair the header.",
                        path, source);
    }
    if (sform && qform) compare_forms(r, length, affine, image);
    if (sform || qform) return kDone;
    image->geometry.axes[0] = 0;
    snprintf(image->warning, sizeof image->warning,
             "it tells the sizes of its voxels and not how they lie (sform_code and qform_code are 0); what depends on "
             "directions has to be told.");
    return kDone;
}

}  // namespace tool
