#include "plan.h"

#include <stdio.h>
#include <string.h>

namespace tool {
namespace {

void print_size(char* text, size_t room, const uint32_t* size, uint32_t rank) {
    int used = 0;
    for (uint32_t a = 3 - rank; a < 3; ++a)
        used += snprintf(text + used, room - static_cast<size_t>(used), "%s%u", used ? " x " : "", size[a]);
}

Exit find_geometry(const Image& image, const uq_model_info& info, Plan* plan) {
    const Geometry& place = image.geometry;
    if (*info.orientation && !*place.axes)
        return fail(kImage,
                    "%.400s: the model wants images turned to %.3s and this one does not say how it lies; give the "
                    "directions of its rows, columns and slices with --axes, for example --axes LAS.",
                    image.file.path, info.orientation);
    plan->turn = find_turn(place.axes, info.orientation);
    const bool sized = info.spacing[0] > 0 || info.spacing[1] > 0 || info.spacing[2] > 0;
    if (sized && !place.sized)
        return fail(kImage,
                    "%.400s: the model wants pixels of %g x %g x %g mm (0: as stored) and the image does not say how "
                    "large its own are; give them with --spacing SLICES,ROWS,COLUMNS in mm.",
                    image.file.path, info.spacing[0], info.spacing[1], info.spacing[2]);
    return kDone;
}

// What a part is, and what becomes of it.
Exit size_part(const Image& image, const uq_model_info& info, Plan* plan) {
    plan->flat = info.spatial_rank == 2;
    plan->context = info.context;
    plan->channels = image.channels;
    plan->by_part = plan->flat && info.over_volume && info.normalize == UQ_NORMALIZE_ZSCORE;
    plan->held = !plan->flat || plan->by_part || info.context || image.channels > 1 || !plan->turn.keeps_slices();
    if (plan->held && image.slices > UINT32_MAX)
        return fail(kImage, "%.400s has more slices than can be held; cut it into parts.", image.file.path);
    const uint32_t stored[3] = {plan->held ? static_cast<uint32_t>(image.slices) : 1, image.height, image.width};
    for (uint32_t a = 0; a < 3; ++a) {
        const uint32_t axis = plan->turn.axis[a];
        plan->stored[a] = stored[a];
        plan->turned[a] = stored[axis];
        const double want = info.spacing[a], have = image.geometry.spacing[axis];
        const uint64_t length = resampled_length(plan->turned[a], have, want);
        if (length == 0)
            return fail(kImage,
                        "%.400s: a spacing of %g mm cannot be resampled; it must be above 0: correct the geometry.",
                        image.file.path, have);
        if (length > UINT32_MAX)
            return fail(kImage, "%.400s: an axis of %u pixels of %g mm would become %llu of %g mm; use another model.",
                        image.file.path, plan->turned[a], have, static_cast<unsigned long long>(length), want);
        plan->seen[a] = static_cast<uint32_t>(length);
    }
    return kDone;
}

// The size that the runtime is called with.
Exit size_call(const Image& image, const uq_model_info& info, const uint32_t unit[3], uint32_t call[3]) {
    char have[64], want[64];
    const bool fixed = info.fixed_size[2] > 0, tiled = info.window[2] > 0;
    for (uint32_t a = 0; a < 3; ++a) {
        const uint64_t length = unit[a], step = info.input_multiple[a];
        uint64_t size = fixed ? info.fixed_size[a] : (length + step - 1) / step * step;
        if (length > size && !tiled) {
            print_size(have, sizeof have, unit, info.spatial_rank);
            print_size(want, sizeof want, info.fixed_size, info.spatial_rank);
            return fail(
                kImage,
                "%.400s: the image has %s pixels and the model was made for exactly %s: larger ones do not fit; cut "
                "the image into parts.",
                image.file.path, have, want);
        }
        if (info.window[a] && size > info.window[a]) size = info.window[a];
        call[a] = size > UINT32_MAX ? UINT32_MAX : static_cast<uint32_t>(size);
    }
    return kDone;
}

// stored: the unit before it is resampled.
Exit check_small(const Image& image, const uq_model_info& info, const uint32_t stored[3], const uint32_t unit[3],
                 bool allow_small) {
    bool small = false;
    for (uint32_t a = 3 - info.spatial_rank; a < 3; ++a) small = small || unit[a] < info.input_multiple[a];
    if (!small) return kDone;
    char have[64], want[64], seen[64], why[400];
    print_size(have, sizeof have, stored, info.spatial_rank);
    print_size(want, sizeof want, info.input_multiple, info.spatial_rank);
    print_size(seen, sizeof seen, unit, info.spatial_rank);
    const bool same = strcmp(have, seen) == 0;
    snprintf(why, sizeof why,
             "the image (%s)%s%s is smaller than the model's stride (%s): most of what the model %s mirrored or "
             "repeated pixels.",
             have, same ? "" : " once resampled to ", same ? "" : seen, want,
             allow_small ? "saw was" : "would see are");
    if (!allow_small)
        return fail(kImage, "%.400s: %s Use a larger image, a model with fewer levels, or --allow-small.",
                    image.file.path, why);
    fprintf(stderr, "warning: %s\n", why);
    return kDone;
}

}  // namespace

Exit plan_image(const Image& image, const uq_model_info& info, bool allow_small, Plan* plan) {
    TOOL_TRY(find_geometry(image, info, plan));
    TOOL_TRY(size_part(image, info, plan));
    uint32_t turned_unit[3];
    for (uint32_t a = 0; a < 3; ++a) {
        const bool single = plan->flat && a == 0;
        plan->unit[a] = single ? 1 : plan->seen[a];
        turned_unit[a] = single ? 1 : plan->turned[a];
    }
    plan->units = plan->flat ? plan->seen[0] : 1;
    uint32_t call[3];
    TOOL_TRY(size_call(image, info, plan->unit, call));
    TOOL_TRY(check_small(image, info, turned_unit, plan->unit, allow_small));
    plan->there = plan_resampling(plan->channels, plan->turned, plan->seen);
    plan->back = plan_resampling(1, plan->unit, turned_unit);
    plan->tiles = plan_tiles(plan->unit, call, info.overlap);
    return kDone;
}

}  // namespace tool
