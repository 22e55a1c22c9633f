#include "status.h"

#include <stdarg.h>
#include <stdio.h>

namespace {
thread_local char detail[768] = "";
}

namespace uq {

uq_status fail(uq_status status, const char* format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(detail, sizeof detail, format, arguments);
    va_end(arguments);
    return status;
}

}  // namespace uq

extern "C" {

uint32_t uq_api_version(void) {
    return UQ_API_VERSION;
}

const char* uq_last_detail(void) {
    return detail;
}

const char* uq_status_text(uq_status status) {
    switch (status) {
        case UQ_OK:
            return "ok";
        case UQ_BAD_ARGUMENT:
            return "bad argument";
        case UQ_CANNOT_READ:
            return "the model file cannot be read";
        case UQ_DAMAGED:
            return "the model file is damaged or no model";
        case UQ_VERSION:
            return "the model file has another version";
        case UQ_NO_MEMORY:
            return "out of memory";
        case UQ_BAD_SIZE:
            return "image size not accepted";
        case UQ_BAD_ARENA:
            return "arena too small or misaligned";
        case UQ_BAD_BUFFER:
            return "input or output buffer of another size";
        case UQ_NOT_FINITE:
            return "NaN or infinity in the input";
        case UQ_CANCELLED:
            return "cancelled";
        case UQ_UNKNOWN_ISA:
            return "unknown instruction set";
        case UQ_ISA_UNAVAILABLE:
            return "instruction set not available on this processor";
    }
    return "unknown status";
}

}  // extern "C"
