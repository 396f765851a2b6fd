// Stands in for FreeBSD's loader.efi: a UEFI program that prints the load options it was started
// with between two brackets on the console, and switches the machine off.
//
// The tables are those of the UEFI specification 2.10, sections 4.3, 4.4, 4.5, 7.3, 8.5 and 9.1,
// as far as they are used; `skipped` is what stands between.

typedef unsigned long long u64;
typedef unsigned short u16;
typedef u64 status;
#define EFI __attribute__((ms_abi))

struct text { void *reset; status (EFI *print)(struct text *, const u16 *); };
struct services { char skipped[152]; status (EFI *protocol)(void *, const void *, void **); };
struct runtime { char skipped[104]; status (EFI *reset)(int, status, u64, void *); };
struct system {
    char skipped[64];
    struct text *console;
    char more[16];
    struct runtime *runtime;
    struct services *boot;
};
struct image { char skipped[48]; unsigned size; const u16 *options; };

static const unsigned char LOADED_IMAGE[16] = {
    0xa1, 0x31, 0x1b, 0x5b, 0x62, 0x95, 0xd2, 0x11, 0x8e, 0x3f, 0x00, 0xa0, 0xc9, 0x69, 0x72, 0x3b,
};

EFI status start(void *handle, struct system *system)
{
    struct image *image = 0;
    struct text *console = system->console;
    u16 text[2] = { 0, 0 };
    if (system->boot->protocol(handle, LOADED_IMAGE, (void **)&image) == 0) {
        console->print(console, u"\r\n[");
        for (unsigned at = 0; at < image->size / 2 && image->options[at] != 0; at++) {
            text[0] = image->options[at];
            console->print(console, text);
        }
        console->print(console, u"]\r\n");
    }
    return system->runtime->reset(2, 0, 0, 0);
}
