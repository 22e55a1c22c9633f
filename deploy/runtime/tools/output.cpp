#include "output.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tool {
namespace {

Exit cannot_write(const Output& output, int why) {
    return fail(
        kOutput,
        "cannot write %.400s: %s; an output is written whole or not at all, so nothing was changed. Free some space "
        "or choose another place.",
        output.path, strerror(why));
}

Exit write_all(Output* output, const uint8_t* data, size_t bytes) {
    while (bytes) {
        if (stopped()) return stop_here();
        const ssize_t done = write(output->descriptor, data, bytes);
        if (done < 0 && errno == EINTR) continue;
        if (done < 0) return cannot_write(*output, errno);
        data += done;
        bytes -= static_cast<size_t>(done);
    }
    return kDone;
}

Exit flush(Output* output) {
    const size_t bytes = output->held;
    output->held = 0;
    return write_all(output, output->buffer, bytes);
}

}  // namespace

Exit open_output(const char* path, Output* output) {
    output->path = path;
    output->at = output->held = 0;
    output->descriptor = -1;
    const char* slash = strrchr(path, '/');
    const size_t folder = slash ? static_cast<size_t>(slash - path) + 1 : 0;
    static const char kName[] = ".unetq-run.XXXXXX";
    if (folder + sizeof kName > sizeof output->temporary) return cannot_write(*output, ENAMETOOLONG);
    memcpy(output->temporary, path, folder);
    memcpy(output->temporary + folder, kName, sizeof kName);
    output->descriptor = mkstemp(output->temporary);
    return output->descriptor < 0 ? cannot_write(*output, errno) : kDone;
}

Exit put(Output* output, const void* data, size_t bytes) {
    output->at += bytes;
    if (output->held + bytes > sizeof output->buffer) TOOL_TRY(flush(output));
    if (bytes > sizeof output->buffer) return write_all(output, static_cast<const uint8_t*>(data), bytes);
    memcpy(output->buffer + output->held, data, bytes);
    output->held += bytes;
    return kDone;
}

Exit patch(Output* output, uint64_t offset, const void* data, size_t bytes) {
    TOOL_TRY(flush(output));
    const ssize_t done = pwrite(output->descriptor, data, bytes, static_cast<off_t>(offset));
    if (done < 0) return cannot_write(*output, errno);
    return static_cast<size_t>(done) == bytes ? kDone : cannot_write(*output, EIO);
}

Exit commit(Output* output) {
    TOOL_TRY(flush(output));
    const mode_t mask = umask(0);
    umask(mask);
    // Some file systems know neither; what was written is still there.
    if (fchmod(output->descriptor, 0666 & ~mask) != 0 && errno != EPERM && errno != ENOTSUP)
        return cannot_write(*output, errno);
    if (fsync(output->descriptor) != 0 && errno != EINVAL && errno != EROFS) return cannot_write(*output, errno);
    if (stopped()) return stop_here();
    if (rename(output->temporary, output->path) != 0) return cannot_write(*output, errno);
    const int closed = close(output->descriptor);
    output->descriptor = -1;
    return closed == 0 ? kDone : cannot_write(*output, errno);
}

void discard(Output* output) {
    if (output->descriptor < 0) return;
    close(output->descriptor);
    unlink(output->temporary);
    output->descriptor = -1;
}

}  // namespace tool
