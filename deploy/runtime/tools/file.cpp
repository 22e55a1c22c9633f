#include "file.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

namespace tool {

Exit open_file(const char* path, const char* what, Exit code, File* file) {
    *file = File{-1, 0, path};
    struct stat about;
    if (stat(path, &about) != 0) {
        if (errno == ENOENT || errno == ENOTDIR)
            return fail(code, "%s %.400s does not exist; check the path.", what, path);
        return fail(code, "%s %.400s cannot be opened (%s); check its permissions.", what, path, strerror(errno));
    }
    if (!S_ISREG(about.st_mode)) return fail(code, "%s %.400s is not a file; check the path.", what, path);
    const int descriptor = open(path, O_RDONLY | O_CLOEXEC);
    if (descriptor < 0)
        return fail(code, "%s %.400s cannot be opened (%s); check its permissions.", what, path, strerror(errno));
    if (fstat(descriptor, &about) != 0 || about.st_size <= 0) {
        close(descriptor);
        return fail(code, "%s %.400s has 0 bytes: the file is empty; copy it again.", what, path);
    }
    file->descriptor = descriptor;
    file->bytes = static_cast<uint64_t>(about.st_size);
    return kDone;
}

void close_file(File* file) {
    if (file->descriptor >= 0) close(file->descriptor);
    file->descriptor = -1;
}

Exit read_at(const File& file, uint64_t offset, void* dst, size_t bytes) {
    auto* to = static_cast<uint8_t*>(dst);
    while (bytes) {
        if (stopped()) return stop_here();
        if (offset > static_cast<uint64_t>(INT64_MAX) - bytes || offset >= file.bytes)
            return fail(kImage, "%.400s is truncated: it ends at byte %llu and more is needed; copy it again.",
                        file.path, static_cast<unsigned long long>(file.bytes));
        const ssize_t got = pread(file.descriptor, to, bytes, static_cast<off_t>(offset));
        if (got < 0 && errno == EINTR) continue;
        if (got < 0)
            return fail(kImage, "%.400s cannot be read (%s); check the disk, or copy it again.", file.path,
                        strerror(errno));
        if (got == 0)
            return fail(kImage, "%.400s is truncated: it ends at byte %llu and more is needed; copy it again.",
                        file.path, static_cast<unsigned long long>(offset));
        to += got;
        offset += static_cast<uint64_t>(got);
        bytes -= static_cast<size_t>(got);
    }
    return kDone;
}

void start_cursor(Cursor* cursor, const File* file, uint64_t offset, uint64_t bytes) {
    cursor->file = file;
    cursor->at = offset < file->bytes ? offset : file->bytes;
    cursor->end = bytes < file->bytes - cursor->at ? cursor->at + bytes : file->bytes;
    cursor->failure = kDone;
}

bool next_chunk(void* context, const uint8_t** data, size_t* bytes) {
    auto* cursor = static_cast<Cursor*>(context);
    const uint64_t left = cursor->end - cursor->at;
    if (left == 0 || cursor->failure != kDone) return false;
    const size_t size = left < kChunk ? static_cast<size_t>(left) : kChunk;
    cursor->failure = read_at(*cursor->file, cursor->at, cursor->chunk, size);
    if (cursor->failure != kDone) return false;
    cursor->at += size;
    *data = cursor->chunk;
    *bytes = size;
    return true;
}

}  // namespace tool
