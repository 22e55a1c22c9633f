/* A qemu plugin: counts the instructions between two markers, by mnemonic.
 *
 *   qemu-aarch64 -cpu cortex-a72 -plugin ./libicount.so,out=counts.json ./count model.uqm 208 208
 *
 * The markers are instructions that do nothing and that compilers do not emit: on AArch64 `hint #45` and `hint #46`,
 * on Arm `mov r10, r10` and `mov r11, r11` (not Thumb). Blocks are counted by qemu's inline additions, without a
 * call-back, so that counting costs little; the few blocks that hold a marker are counted instruction by instruction.
 * A name is the mnemonic, and behind a point the shape of the first register where that tells two costs apart:
 * mla.16b, ldr.q, ldr, vmla.i16.q. A second table counts by function, where the program has symbols.
 *
 * qemu's plugin interface is declared here as its documentation gives it (version 1, QEMU 4.2 to 8.2), so that no
 * header of qemu is needed. Only one thread of the program is counted right.
 */
#include <inttypes.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* ---- qemu's interface */

#define EXPORT __attribute__((visibility("default")))

typedef uint64_t qemu_plugin_id_t;
struct qemu_plugin_tb;
struct qemu_plugin_insn;
typedef struct {
    const char* target_name;
    struct {
        int min;
        int cur;
    } version;
} qemu_info_t; /* what follows is not used */
enum { NO_REGISTERS = 0 };
enum { INLINE_ADD_U64 = 0 };

void qemu_plugin_register_vcpu_tb_trans_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, struct qemu_plugin_tb*));
void qemu_plugin_register_vcpu_tb_exec_inline(struct qemu_plugin_tb*, int operation, void* counter, uint64_t add);
void qemu_plugin_register_vcpu_insn_exec_inline(struct qemu_plugin_insn*, int operation, void* counter, uint64_t add);
void qemu_plugin_register_vcpu_insn_exec_cb(struct qemu_plugin_insn*, void (*)(unsigned, void*), int flags, void* data);
void qemu_plugin_register_atexit_cb(qemu_plugin_id_t, void (*)(qemu_plugin_id_t, void*), void* data);
size_t qemu_plugin_tb_n_insns(const struct qemu_plugin_tb*);
struct qemu_plugin_insn* qemu_plugin_tb_get_insn(const struct qemu_plugin_tb*, size_t index);
const void* qemu_plugin_insn_data(const struct qemu_plugin_insn*);
size_t qemu_plugin_insn_size(const struct qemu_plugin_insn*);
char* qemu_plugin_insn_disas(const struct qemu_plugin_insn*);
const char* qemu_plugin_insn_symbol(const struct qemu_plugin_insn*);

EXPORT int qemu_plugin_version = 1;

/* ---- counters */

enum { NAME = 32, FUNCTION = 160, MAX_NAMES = 2048, MAX_FUNCTIONS = 8192 };

static char names[MAX_NAMES][NAME];
static uint64_t totals[MAX_NAMES];
static unsigned name_count;
static char functions[MAX_FUNCTIONS][FUNCTION];
static uint64_t function_totals[MAX_FUNCTIONS];
static unsigned function_count;

typedef struct block {
    struct block* next;
    uint64_t runs; /* qemu adds to it */
    size_t length;
    unsigned function;
    uint16_t* kinds; /* an index into names for each instruction */
} block;

static block* blocks;
static uint64_t single[MAX_NAMES]; /* blocks with a marker: qemu adds to these directly */
static uint32_t start_code, stop_code;
static int regions, is_aarch64;
static char out_path[1024];

static unsigned name_index(const char* name) {
    unsigned i;
    for (i = 0; i < name_count; ++i)
        if (strcmp(names[i], name) == 0) return i;
    if (name_count == MAX_NAMES) return MAX_NAMES - 1; /* never met: instruction sets have fewer names */
    snprintf(names[name_count], NAME, "%s", name);
    return name_count++;
}

static unsigned function_index(const struct qemu_plugin_insn* instruction) {
    const char* name = qemu_plugin_insn_symbol(instruction);
    unsigned i;
    if (name == NULL || strpbrk(name, "\"\\") != NULL) name = "?";
    for (i = 0; i < function_count; ++i)
        if (strncmp(functions[i], name, FUNCTION - 1) == 0) return i;
    if (function_count == MAX_FUNCTIONS) return MAX_FUNCTIONS - 1;
    snprintf(functions[function_count], FUNCTION, "%s", name);
    return function_count++;
}

/* Instructions that the disassembler inside qemu 7.2 does not know: the dot products and matrix products of Armv8.2
 * and 8.6, as the architecture's manual encodes them. */
static const char* newer_name(uint32_t code) {
    static const struct {
        uint32_t mask, value;
        const char* name;
    } known[] = {
        {0xbfe0fc00u, 0x0e809400u, "sdot"},   {0xbfe0fc00u, 0x2e809400u, "udot"},  {0xbfe0fc00u, 0x0e809c00u, "usdot"},
        {0xbfc0f400u, 0x0f80e000u, "sdot"},   {0xbfc0f400u, 0x2f80e000u, "udot"},  {0xbfc0f400u, 0x0f80f000u, "usdot"},
        {0xbfc0f400u, 0x0f00f000u, "sudot"},  {0xffe0fc00u, 0x4e80a400u, "smmla"}, {0xffe0fc00u, 0x6e80a400u, "ummla"},
        {0xffe0fc00u, 0x4e80ac00u, "usmmla"},
    };
    size_t i;
    for (i = 0; i < sizeof known / sizeof *known; ++i)
        if ((code & known[i].mask) == known[i].value) return known[i].name;
    return NULL;
}

/* "v12.16b" gives "16b", "q3" gives "q", "x1" gives nothing. */
static void shape_of(const char* operand, char* shape, size_t size) {
    size_t n = 0;
    shape[0] = '\0';
    while (*operand == ' ' || *operand == '\t' || *operand == '{') ++operand;
    if (*operand == 'v') {
        const char* dot = strchr(operand, '.');
        const char* end = operand + strcspn(operand, ", }");
        if (dot == NULL || dot > end) return;
        for (++dot; dot < end && *dot != '[' && n + 1 < size; ++dot) shape[n++] = *dot;
        shape[n] = '\0';
    } else if (strchr("qdshb", *operand) != NULL && operand[1] >= '0' && operand[1] <= '9') {
        snprintf(shape, size, "%c", *operand);
    }
}

static uint32_t code_of(const struct qemu_plugin_insn* instruction) {
    uint32_t code = 0;
    if (qemu_plugin_insn_size(instruction) == 4) memcpy(&code, qemu_plugin_insn_data(instruction), 4);
    return code;
}

static unsigned kind_of(const struct qemu_plugin_insn* instruction) {
    char name[NAME], shape[8];
    char* text = qemu_plugin_insn_disas(instruction);
    size_t length;
    unsigned index;
    if (is_aarch64) {
        const char* newer = newer_name(code_of(instruction));
        if (newer != NULL) {
            snprintf(name, sizeof name, "%s.4s", newer);
            free(text);
            return name_index(name);
        }
    }
    if (text == NULL) return name_index("?");
    length = strcspn(text, " \t");
    snprintf(name, sizeof name, "%.*s", (int)(length < 20 ? length : 20), text);
    shape_of(text + length, shape, sizeof shape);
    if (shape[0] != '\0') {
        strcat(name, "."); /* fits: 20 + 1 + 7 */
        strcat(name, shape);
    }
    index = name_index(name);
    free(text);
    return index;
}

static void forget(void) {
    block* b;
    for (b = blocks; b != NULL; b = b->next) b->runs = 0;
    memset(single, 0, sizeof single);
}

static void on_start(unsigned vcpu, void* data) {
    (void)vcpu, (void)data;
    forget();
}

static void on_stop(unsigned vcpu, void* data) {
    const block* b;
    size_t i;
    (void)vcpu, (void)data;
    for (b = blocks; b != NULL; b = b->next)
        if (b->runs != 0) {
            for (i = 0; i < b->length; ++i) totals[b->kinds[i]] += b->runs;
            function_totals[b->function] += b->runs * b->length;
        }
    for (i = 0; i < name_count; ++i) totals[i] += single[i];
    forget();
    ++regions;
}

/* ---- translation and end */

static void on_translate(qemu_plugin_id_t id, struct qemu_plugin_tb* tb) {
    size_t count = qemu_plugin_tb_n_insns(tb), i;
    int marked = 0;
    (void)id;
    for (i = 0; i < count; ++i) {
        uint32_t code = code_of(qemu_plugin_tb_get_insn(tb, i));
        marked |= code == start_code || code == stop_code;
    }
    if (marked) {
        for (i = 0; i < count; ++i) {
            struct qemu_plugin_insn* instruction = qemu_plugin_tb_get_insn(tb, i);
            uint32_t code = code_of(instruction);
            if (code == start_code)
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_start, NO_REGISTERS, NULL);
            else if (code == stop_code)
                qemu_plugin_register_vcpu_insn_exec_cb(instruction, on_stop, NO_REGISTERS, NULL);
            else
                qemu_plugin_register_vcpu_insn_exec_inline(instruction, INLINE_ADD_U64, &single[kind_of(instruction)],
                                                           1);
        }
        return;
    }
    {
        block* b = malloc(sizeof *b);
        uint16_t* kinds = malloc(count * sizeof *kinds);
        if (b == NULL || kinds == NULL) {
            fputs("icount: no memory\n", stderr);
            exit(1);
        }
        for (i = 0; i < count; ++i) kinds[i] = (uint16_t)kind_of(qemu_plugin_tb_get_insn(tb, i));
        b->runs = 0, b->length = count, b->kinds = kinds, b->next = blocks;
        b->function = function_index(qemu_plugin_tb_get_insn(tb, 0));
        blocks = b;
        qemu_plugin_register_vcpu_tb_exec_inline(tb, INLINE_ADD_U64, &b->runs, 1);
    }
}

static void at_end(qemu_plugin_id_t id, void* data) {
    uint64_t sum = 0;
    unsigned i, printed = 0;
    FILE* out = fopen(out_path, "w");
    (void)id, (void)data;
    if (out == NULL) {
        fprintf(stderr, "icount: cannot write %s\n", out_path);
        return;
    }
    for (i = 0; i < name_count; ++i) sum += totals[i];
    fprintf(out, "{\"regions\": %d, \"instructions\": %" PRIu64 ", \"histogram\": {", regions, sum);
    for (i = 0; i < name_count; ++i)
        if (totals[i] != 0) fprintf(out, "%s\"%s\": %" PRIu64, printed++ ? ", " : "", names[i], totals[i]);
    fputs("}, \"functions\": {", out);
    for (i = 0, printed = 0; i < function_count; ++i)
        if (function_totals[i] != 0)
            fprintf(out, "%s\"%s\": %" PRIu64, printed++ ? ", " : "", functions[i], function_totals[i]);
    fputs("}}\n", out);
    fclose(out);
}

EXPORT int qemu_plugin_install(qemu_plugin_id_t id, const qemu_info_t* info, int argc, char** argv) {
    int i;
    if (strcmp(info->target_name, "aarch64") == 0) {
        is_aarch64 = 1, start_code = 0xd50325bfu, stop_code = 0xd50325dfu; /* hint #45, hint #46 */
    } else if (strcmp(info->target_name, "arm") == 0) {
        start_code = 0xe1a0a00au, stop_code = 0xe1a0b00bu; /* mov r10, r10 and mov r11, r11 */
    } else {
        fprintf(stderr, "icount: no markers for %s\n", info->target_name);
        return 1;
    }
    for (i = 0; i < argc; ++i)
        if (strncmp(argv[i], "out=", 4) == 0) snprintf(out_path, sizeof out_path, "%s", argv[i] + 4);
    if (out_path[0] == '\0') {
        fputs("icount: say where to write: -plugin libicount.so,out=FILE\n", stderr);
        return 1;
    }
    qemu_plugin_register_vcpu_tb_trans_cb(id, on_translate);
    qemu_plugin_register_atexit_cb(id, at_end, NULL);
    return 0;
}
