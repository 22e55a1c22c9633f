// How an image lies in space: spacing, axes code, and the turn to another orientation and back.
#ifndef UNETQ_TOOLS_GEOMETRY_H
#define UNETQ_TOOLS_GEOMETRY_H

#include <stdint.h>

namespace tool {

// Axes are in the order slices, rows, columns. A code has a letter for rows, columns and slices, in this order: where
// each increases to, L or R, A or P, S or I.
struct Geometry {
    bool sized;         // spacing is known
    double spacing[3];  // mm
    char axes[4];       // "" where not known
};

// What can be wrong with an affine.
enum class Fault : uint8_t { kNone, kNotFinite, kNoLength, kFlat };

// The geometry of a grid from its affine: RAS mm of the voxel (row, column, slice). Oblique grids get the closest axes,
// those of the nearest rotation, as nibabel's io_orientation finds them.
Fault geometry_of(const double affine[3][4], Geometry* geometry);

// One letter of each of L and R, A and P, S and I.
bool is_axes(const char* text);

// For each axis of a turned volume: the stored axis that it is, and whether it runs the other way.
struct Turn {
    uint32_t axis[3];
    bool flip[3];

    bool keeps_slices() const { return axis[0] == 0 && !flip[0]; }
    bool turns() const { return !keeps_slices() || axis[1] != 1 || flip[1] || flip[2]; }
};

// The turn of axes to orientation, both codes; an orientation of "" turns nothing.
Turn find_turn(const char* axes, const char* orientation);

// Where the elements of a volume lie in another one: element (a, b, c) at first + a * step[0] + b * step[1] + c *
// step[2].
struct Walk {
    int64_t first;
    int64_t step[3];
};

// From stored places into the turned volume, and back; size is the stored one.
Walk walk_there(const Turn& turn, const uint32_t size[3]);
Walk walk_back(const Turn& turn, const uint32_t size[3]);

}  // namespace tool

#endif
