#include "shared_library_file.h"

#include <elf.h>
#include <fcntl.h>
#include <link.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstring>
#include <vector>

#include "kvlab/core/error.h"

// The header of the library this code is in, set by the linker: what every plugin must match.
extern const ElfW(Ehdr) __ehdr_start __attribute__((visibility("hidden")));

namespace kvlab {

namespace {

using Header = ElfW(Ehdr);
using Segment = ElfW(Phdr);

class LibraryFile {
 public:
  explicit LibraryFile(const std::string& path) : path_(path) {
    descriptor_ = ::open(path.c_str(), O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    struct stat status {};
    if (descriptor_ < 0 || ::fstat(descriptor_, &status) != 0) {
      const int failure = errno;
      close();
      fail("cannot be opened: ", std::strerror(failure), "; check its permissions");
    }
    if (!S_ISREG(status.st_mode)) {
      close();
      fail("is no regular file; name the .so that kvlab_add_plugin built");
    }
    size_ = static_cast<uint64_t>(status.st_size);
  }
  ~LibraryFile() { close(); }
  LibraryFile(const LibraryFile&) = delete;
  LibraryFile& operator=(const LibraryFile&) = delete;

  uint64_t size() const { return size_; }

  void read(uint64_t offset, void* target, size_t bytes) const {
    auto* out = static_cast<char*>(target);
    while (bytes > 0) {
      const ssize_t count = ::pread(descriptor_, out, bytes, static_cast<off_t>(offset));
      if (count < 0 && errno == EINTR) continue;
      if (count <= 0) fail("cannot be read; copy or build it again");
      out += count;
      offset += static_cast<uint64_t>(count);
      bytes -= static_cast<size_t>(count);
    }
  }

  /// Where `bytes` at `offset` end; refuses what lies outside the file.
  void need(uint64_t offset, uint64_t bytes) const {
    uint64_t end = 0;
    if (__builtin_add_overflow(offset, bytes, &end)) {
      fail("its headers describe more bytes than a file can have; build it again");
    }
    if (end > size_) {
      fail("it is truncated: its headers describe ", end, " bytes, the file has ", size_,
           "; copy or build it again");
    }
  }

  template <typename... Parts>
  [[noreturn]] void fail(const Parts&... parts) const {
    throw PluginError(detail::concat("[runtime.plugin.load] ", path_, ": ", parts...));
  }

 private:
  void close() {
    if (descriptor_ >= 0) ::close(descriptor_);
    descriptor_ = -1;
  }

  std::string path_;
  int descriptor_ = -1;
  uint64_t size_ = 0;
};

std::string machine_name(unsigned machine) {
  switch (machine) {
    case EM_386: return "x86 (32 bit)";
    case EM_X86_64: return "x86-64";
    case EM_ARM: return "ARM (32 bit)";
    case EM_AARCH64: return "AArch64";
    case EM_RISCV: return "RISC-V";
    case EM_PPC64: return "PowerPC 64";
    case EM_S390: return "S/390";
    default: return "machine " + std::to_string(machine);
  }
}

// What every ELF file begins with, whatever its class is.
void check_identity(const LibraryFile& file) {
  unsigned char identity[EI_NIDENT] = {};
  file.read(0, identity, static_cast<size_t>(std::min<uint64_t>(file.size(), sizeof identity)));
  if (std::memcmp(identity, ELFMAG, SELFMAG) != 0) {
    file.fail(
        "it is no shared library: it does not begin with the ELF signature; name the .so that "
        "kvlab_add_plugin built");
  }
  const unsigned char wanted_class = __ehdr_start.e_ident[EI_CLASS];
  if (identity[EI_CLASS] != wanted_class) {
    const auto bits = [](unsigned char value) {
      return value == ELFCLASS32   ? "32-bit"
             : value == ELFCLASS64 ? "64-bit"
                                   : "of an unknown class";
    };
    file.fail("it is ", bits(identity[EI_CLASS]), ", wanted ", bits(wanted_class),
              "; build it for this machine");
  }
  if (identity[EI_DATA] != __ehdr_start.e_ident[EI_DATA]) {
    file.fail("its byte order is not this machine's; build it for this machine");
  }
}

void check_sections(const LibraryFile& file, const Header& header) {
  if (header.e_shoff == 0) return;
  file.need(header.e_shoff, uint64_t{header.e_shnum} * header.e_shentsize);
}

void check_segments(const LibraryFile& file, const Header& header) {
  if (header.e_phentsize != sizeof(Segment) || header.e_phnum == 0 || header.e_phnum == PN_XNUM) {
    file.fail("its table of segments is damaged; build it again");
  }
  file.need(header.e_phoff, uint64_t{header.e_phnum} * sizeof(Segment));
  std::vector<Segment> segments(header.e_phnum);
  file.read(header.e_phoff, segments.data(), segments.size() * sizeof(Segment));
  bool dynamic = false;
  for (const Segment& segment : segments) {
    dynamic = dynamic || segment.p_type == PT_DYNAMIC;
    if (segment.p_type != PT_LOAD && segment.p_type != PT_DYNAMIC) continue;
    file.need(segment.p_offset, segment.p_filesz);
    if (segment.p_filesz > segment.p_memsz) {
      file.fail("its table of segments is damaged; build it again");
    }
  }
  if (!dynamic) file.fail("it has no dynamic section; link it as a shared library");
}

}  // namespace

void check_shared_library_file(const std::string& path) {
  const LibraryFile file(path);
  check_identity(file);
  file.need(0, sizeof(Header));
  Header header;
  file.read(0, &header, sizeof header);
  if (header.e_machine != __ehdr_start.e_machine) {
    file.fail("it is for ", machine_name(header.e_machine), ", wanted ",
              machine_name(__ehdr_start.e_machine), "; build it for this machine");
  }
  if (header.e_type != ET_DYN) {
    file.fail("it is ELF but no shared library (type ", header.e_type,
              "); name the .so that kvlab_add_plugin built");
  }
  check_segments(file, header);
  check_sections(file, header);
}

}  // namespace kvlab
