// How an image goes through a network: what it is turned and resampled to, in which parts and windows it is seen.
#ifndef UNETQ_TOOLS_PLAN_H
#define UNETQ_TOOLS_PLAN_H

#include "../include/unetq.h"
#include "image.h"
#include "resample.h"
#include "tiles.h"

namespace tool {

// Sizes are (slices, rows, columns). A part is what is read before the network runs: all of the image, or one slice
// where a 2-D model needs no other one at the same time. A unit is what the network then sees, at once or through
// windows: a slice of the part in 2-D, all of it in 3-D.
struct Plan {
    Turn turn;
    uint32_t stored[3];  // of a part
    uint32_t turned[3];
    uint32_t seen[3];  // resampled
    uint32_t units;
    uint32_t unit[3];    // of seen
    Resampling there;    // of a part, turned
    Resampling back;     // of a unit's logits
    Tiles tiles;         // of a unit
    uint32_t channels;   // of the image
    uint32_t context;    // neighbour slices on each side
    bool held, by_part;  // the volume is held; moments are those of the part
    bool flat;           // a 2-D model

    // A 3-D model has seen its input when its logits come.
    bool shares_buffers() const { return !flat; }
    // What is read is the network's input as it is.
    bool fills_input() const {
        const bool same = tiles.call[0] == turned[0] && tiles.call[1] == turned[1] && tiles.call[2] == turned[2];
        return same && units == 1 && !context && !there.steps && tiles.windows() == 1;
    }
};

// The way of image through the model of info. Refuses what cannot go; small images only where they are allowed, with a
// warning.
Exit plan_image(const Image& image, const uq_model_info& info, bool allow_small, Plan* plan);

}  // namespace tool

#endif
