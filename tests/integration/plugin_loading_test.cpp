// Every library that is no plugin of this program is refused with a message that names it and says
// what to do, and the registry is as before; a good one loads afterwards.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <link.h>
#include <sys/stat.h>

#include <cstring>
#include <filesystem>

#include "kvlab/core/error.h"
#include "kvlab/runtime/plugin_loader.h"
#include "kvlab/runtime/run_folder.h"
#include "tests/fixtures/run_config.h"

namespace kvlab {
namespace {

namespace fs = std::filesystem;
using testing::ElementsAre;
using testing::HasSubstr;
using Names = std::vector<std::string>;

const std::string kFolder = KVLAB_BINARY_DIR "/lib/bad_plugins/";
const std::string kGood = kFolder + "good.so";

std::string bad_plugin(const std::string& name) { return kFolder + name + ".so"; }

// Everything a registry knows, with its origin.
Names contents(const Registry& registry) {
  Names lines;
  const auto add = [&](const auto& entries) {
    for (const auto& entry : entries) lines.push_back(entry.info.name + " of " + entry.origin);
  };
  add(registry.caches());
  add(registry.attentions());
  add(registry.positions());
  add(registry.experiments());
  for (const LoadedPlugin& plugin : registry.plugins()) lines.push_back("plugin " + plugin.file);
  return lines;
}

std::string with_placeholder(std::string text, const std::string& file) {
  const std::string path = fs::weakly_canonical(file).string();
  if (path.empty()) return text;
  for (size_t at; (at = text.find(path)) != std::string::npos;) text.replace(at, path.size(), "FILE");
  return text;
}

// The message with which `file` is refused; its path is FILE there. The registry must stay as it is.
template <typename Refusal = PluginError>
std::string refusal_of(const std::string& file) {
  Registry registry = test::full_registry();
  const Names before = contents(registry);
  std::string message = "nothing was thrown";
  try {
    load_plugin(registry, file);
  } catch (const Refusal& error) {
    message = with_placeholder(error.what(), file);
  }
  EXPECT_EQ(contents(registry), before);
  EXPECT_EQ(load_plugin(registry, kGood).name, "fixture") << "a good library must load afterwards";
  return message;
}

// What a mismatch of one field of the fingerprint says.
std::string mismatch(const std::string& field, const std::string& found, const std::string& wanted,
                     const std::string& remedy) {
  return "[runtime.plugin.load] FILE: plugin 'fixture' was built for another program: " + field +
         " found '" + found + "', wanted '" + wanted + "'; " + remedy;
}

class PluginLoading : public testing::Test {
 protected:
  // A copy of the good library, cut to `size` bytes and with `bytes` written at `offset`.
  std::string damaged(size_t size, size_t offset = 0, const std::string& bytes = "") {
    std::string content = test::read_whole(kGood);
    content.resize(std::min(size, content.size()));
    content.replace(offset, bytes.size(), bytes);
    return folder_.write("damaged.so", content);
  }

  ElfW(Ehdr) good_header() const {
    const std::string content = test::read_whole(kGood);
    ElfW(Ehdr) header;
    std::memcpy(&header, content.data(), sizeof header);
    return header;
  }

  test::TemporaryFolder folder_;
};

constexpr size_t kAll = std::string::npos;

TEST_F(PluginLoading, AGoodLibraryIsRegisteredWithItsFileAsOrigin) {
  Registry registry = test::full_registry();
  const LoadedPlugin plugin = load_plugin(registry, kGood);
  const std::string file = fs::canonical(kGood).string();
  EXPECT_EQ(plugin.name, "fixture");
  EXPECT_EQ(plugin.version, "1.2.3");
  EXPECT_EQ(plugin.file, file);
  EXPECT_EQ(plugin.hash, fingerprint_file(kGood));
  EXPECT_EQ(registry.position("fixture_position").origin, file);
  ASSERT_EQ(registry.plugins().size(), 1u);
  EXPECT_EQ(registry.plugins()[0].file, file);
}

TEST_F(PluginLoading, ALibraryWithoutTheSymbolIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("no_symbol")),
            "[runtime.plugin.load] FILE: it has no symbol kvlab_plugin; build it with "
            "kvlab_add_plugin, or write KVLAB_PLUGIN(name, version, register_function) in one of "
            "its source files");
}

TEST_F(PluginLoading, AnotherApiVersionIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_api")),
            "[runtime.plugin.load] FILE: plugin API version found 99, wanted 1; rebuild it against "
            "this kvlab (-Dkvlab_DIR=FOLDER)");
}

TEST_F(PluginLoading, ADescriptionOfAnotherSizeIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_size")),
            "[runtime.plugin.load] FILE: size of KvlabPlugin found 8, wanted " +
                std::to_string(sizeof(KvlabPlugin)) +
                "; rebuild it against this kvlab (-Dkvlab_DIR=FOLDER)");
}

TEST_F(PluginLoading, AnotherVersionOfKvlabIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_version")),
            mismatch("kvlab version", "9.9.9", KVLAB_PLUGIN_FRAMEWORK,
                     "rebuild it against this kvlab (-Dkvlab_DIR=FOLDER)"));
}

// A header that changed without a new version: the classes may have another layout.
TEST_F(PluginLoading, OtherHeadersOfTheSameVersionAreRefused) {
  EXPECT_THAT(KVLAB_PLUGIN_FRAMEWORK,
              testing::ContainsRegex("^[0-9.]+ \\(headers [0-9a-f]{12}\\)$"));
  EXPECT_THAT(refusal_of(bad_plugin("other_headers")),
              HasSubstr("kvlab version found '" KVLAB_FRAMEWORK_VERSION " (headers 0)', wanted '"
                        KVLAB_PLUGIN_FRAMEWORK "'"));
}

TEST_F(PluginLoading, AnotherLibTorchIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_torch")),
            mismatch("LibTorch version", "1.0.0", TORCH_VERSION,
                     "rebuild it against LibTorch " TORCH_VERSION " (-DKVLAB_TORCH_ROOT=FOLDER)"));
}

TEST_F(PluginLoading, AnotherCompilerIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_compiler")),
            mismatch("compiler", "icc 7", KVLAB_PLUGIN_COMPILER,
                     "rebuild it with " KVLAB_PLUGIN_COMPILER " (-DCMAKE_CXX_COMPILER=PROGRAM)"));
}

TEST_F(PluginLoading, AnotherStandardLibraryIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_abi")),
            mismatch("C++ ABI", "libother 1", KVLAB_PLUGIN_CXX_ABI,
                     "rebuild it with the standard library and flags of this program, "
                     KVLAB_PLUGIN_CXX_ABI));
}

TEST_F(PluginLoading, AnotherBuildTypeIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("other_build")),
            mismatch("build type", "profile", KVLAB_PLUGIN_BUILD,
                     "rebuild it as " KVLAB_PLUGIN_BUILD
                     " (-DCMAKE_BUILD_TYPE=TYPE, Release or Debug)"));
}

TEST_F(PluginLoading, EveryDifferentFieldOfAFingerprintIsListed) {
  KvlabPlugin plugin = program_description();
  for (const FingerprintField& field : compare_fingerprint(plugin)) EXPECT_TRUE(field.equal());
  plugin.compiler = "icc 7";
  plugin.build = "profile";
  Names different;
  for (const FingerprintField& field : compare_fingerprint(plugin)) {
    if (!field.equal()) different.push_back(field.name + ": " + field.found + ", " + field.wanted);
  }
  EXPECT_THAT(different, ElementsAre("compiler: icc 7, " KVLAB_PLUGIN_COMPILER,
                                     "build type: profile, " KVLAB_PLUGIN_BUILD));
}

TEST_F(PluginLoading, ADescriptionWithANullIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("null_name")),
            "[runtime.plugin.load] FILE: its description has a null text; write it with "
            "KVLAB_PLUGIN(...)");
  EXPECT_EQ(refusal_of(bad_plugin("no_function")),
            "[runtime.plugin.load] FILE: its description has no register function; give one to "
            "KVLAB_PLUGIN(...)");
}

TEST_F(PluginLoading, AFileThatIsNoLibraryIsRefused) {
  const std::string expected =
      "[runtime.plugin.load] FILE: it is no shared library: it does not begin with the ELF "
      "signature; name the .so that kvlab_add_plugin built";
  EXPECT_EQ(refusal_of(folder_.write("text.so", "not a library\n")), expected);
  EXPECT_EQ(refusal_of(folder_.write("empty.so", "")), expected);
  EXPECT_EQ(refusal_of(folder_.write("short.so", "\177EL")), expected);
}

// The system's loader would map such a file and end the process with SIGBUS.
TEST_F(PluginLoading, ATruncatedLibraryIsRefusedWhereverItEnds) {
  const size_t whole = fs::file_size(kGood);
  for (const size_t size : {whole - 1, whole / 2, whole / 10, sizeof(ElfW(Ehdr)), size_t{20}}) {
    const std::string message = refusal_of(damaged(size));
    EXPECT_THAT(message, testing::StartsWith(
                             "[runtime.plugin.load] FILE: it is truncated: its headers describe "));
    EXPECT_THAT(message, testing::EndsWith(" bytes, the file has " + std::to_string(size) +
                                           "; copy or build it again"));
  }
}

TEST_F(PluginLoading, ALibraryForAnotherMachineIsRefused) {
  const bool arm = good_header().e_machine == EM_AARCH64;
  const std::string other(1, static_cast<char>(arm ? EM_X86_64 : EM_AARCH64));
  const std::string message =
      refusal_of(damaged(kAll, offsetof(ElfW(Ehdr), e_machine), other + std::string(1, '\0')));
  EXPECT_EQ(message, arm ? "[runtime.plugin.load] FILE: it is for x86-64, wanted AArch64; build it "
                           "for this machine"
                         : "[runtime.plugin.load] FILE: it is for AArch64, wanted x86-64; build it "
                           "for this machine");
}

TEST_F(PluginLoading, ALibraryOfAnotherWordSizeIsRefused) {
  EXPECT_EQ(refusal_of(damaged(kAll, EI_CLASS, std::string(1, ELFCLASS32))),
            "[runtime.plugin.load] FILE: it is 32-bit, wanted 64-bit; build it for this machine");
}

TEST_F(PluginLoading, AnElfFileThatIsNoSharedLibraryIsRefused) {
  const std::string object(1, ET_REL);
  EXPECT_EQ(refusal_of(damaged(kAll, offsetof(ElfW(Ehdr), e_type), object)),
            "[runtime.plugin.load] FILE: it is ELF but no shared library (type 1); name the .so "
            "that kvlab_add_plugin built");
}

TEST_F(PluginLoading, DamagedTablesAreRefused) {
  const std::string huge(8, '\x7f');
  EXPECT_THAT(refusal_of(damaged(kAll, offsetof(ElfW(Ehdr), e_phoff), huge)),
              HasSubstr("FILE: it is truncated: its headers describe 91"));
  EXPECT_THAT(refusal_of(damaged(kAll, offsetof(ElfW(Ehdr), e_phoff), std::string(8, '\xff'))),
              HasSubstr("its headers describe more bytes than a file can have; build it again"));
  EXPECT_THAT(refusal_of(damaged(kAll, offsetof(ElfW(Ehdr), e_phnum), std::string(2, '\0'))),
              HasSubstr("its table of segments is damaged; build it again"));
}

TEST_F(PluginLoading, AMissingDependencyIsNamed) {
  EXPECT_EQ(refusal_of(bad_plugin("needs_missing")),
            "[runtime.plugin.load] FILE: the system cannot load it: libkvlab_fixture_missing.so: "
            "cannot open shared object file: No such file or directory; `ldd -r` on it lists what "
            "is missing");
}

TEST_F(PluginLoading, ATakenNameIsRefusedNamingBothOrigins) {
  EXPECT_EQ(refusal_of(bad_plugin("taken_name")),
            "[registry.commit] position 'rope' from FILE is taken by built in; give one of them "
            "another name");
}

TEST_F(PluginLoading, NothingOfALibraryIsTakenWhereOneOfItsNamesIs) {
  EXPECT_EQ(refusal_of(bad_plugin("good_and_taken")),
            "[registry.commit] position 'rope' from FILE is taken by built in; give one of them "
            "another name");
}

TEST_F(PluginLoading, ALibraryThatRegistersANameTwiceIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("same_name_twice")),
            "[runtime.plugin.load] FILE: plugin 'fixture' failed to register: [registry.add] "
            "position 'fixture_twice' from FILE is taken by FILE; give one of them another name");
}

TEST_F(PluginLoading, WhateverRegisteringThrowsBecomesARefusal) {
  EXPECT_EQ(refusal_of(bad_plugin("throws_standard")),
            "[runtime.plugin.load] FILE: plugin 'fixture' failed to register: std::bad_alloc");
  EXPECT_EQ(refusal_of(bad_plugin("throws_user_error")),
            "[runtime.plugin.load] FILE: plugin 'fixture' failed to register: no luck today");
  EXPECT_EQ(refusal_of(bad_plugin("throws_number")),
            "[runtime.plugin.load] FILE: plugin 'fixture' failed to register: it threw something "
            "that is no std::exception");
}

TEST_F(PluginLoading, WhatTheExportedFunctionThrowsBecomesARefusal) {
  EXPECT_EQ(refusal_of(bad_plugin("throwing_symbol")),
            "[runtime.plugin.load] FILE: kvlab_plugin failed: no luck today; write it with "
            "KVLAB_PLUGIN(...)");
}

TEST_F(PluginLoading, ALibraryThatRegistersNothingIsRefused) {
  EXPECT_EQ(refusal_of(bad_plugin("registers_nothing")),
            "[runtime.plugin.load] FILE: plugin 'fixture' registers nothing; its register function "
            "must call registry.add");
}

TEST_F(PluginLoading, TheSameFileIsRefusedTheSecondTimeByWhateverName) {
  Registry registry = test::full_registry();
  load_plugin(registry, kGood);
  const Names before = contents(registry);
  fs::create_symlink(kGood, folder_.file("other_name.so"));
  for (const std::string& file : {kGood, folder_.file("other_name.so")}) {
    try {
      load_plugin(registry, file);
      ADD_FAILURE() << file << " was loaded twice";
    } catch (const PluginError& error) {
      EXPECT_EQ(with_placeholder(error.what(), kGood),
                "[runtime.plugin.load] FILE: this library is loaded already; name it once");
    }
  }
  EXPECT_EQ(contents(registry), before);
}

TEST_F(PluginLoading, ASecondPlaceMayNameALibraryThatIsThere) {
  Registry registry = test::full_registry();
  load_plugins(registry, {kGood});
  EXPECT_NO_THROW(load_plugins(registry, {kGood}));
  EXPECT_EQ(registry.plugins().size(), 1u);
  Registry other = test::full_registry();
  EXPECT_THROW(load_plugins(other, {kGood, kGood}), PluginError);
}

TEST_F(PluginLoading, AFileThatDoesNotExistIsMissing) {
  const std::string file = folder_.file("gone.so");
  EXPECT_EQ(refusal_of<MissingError>(file), "[runtime.plugin.load] there is no plugin library "
                                            "'FILE', looked at FILE; build it, or correct the path");
  EXPECT_THAT(refusal_of<MissingError>(kGood + "/inside.so"), HasSubstr("there is no plugin"));
}

TEST_F(PluginLoading, PathsThatNameNoFileAreRefused) {
  EXPECT_EQ(refusal_of<UserError>(""), "[runtime.plugin.load] the path of a plugin library is empty");
  EXPECT_EQ(refusal_of<UserError>(std::string("good\0bad", 8)),
            "[runtime.plugin.load] the path of a plugin library holds a NUL byte, after 'good'");
  EXPECT_EQ(refusal_of<UserError>(kFolder),
            "[runtime.plugin.load] 'FILE/' is a folder; name the .so in it");
  const std::string pipe = folder_.file("pipe.so");
  ASSERT_EQ(::mkfifo(pipe.c_str(), 0600), 0);
  EXPECT_EQ(refusal_of(pipe), "[runtime.plugin.load] FILE: is no regular file; name the .so that "
                              "kvlab_add_plugin built");
}

TEST_F(PluginLoading, ASearchPathListsFilesAndTheLibrariesOfFolders) {
  const std::string b = folder_.write("b.so", ""), a = folder_.write("a.so", "");
  folder_.write("notes.txt", "");
  EXPECT_THAT(plugin_path_files(nullptr), ElementsAre());
  EXPECT_THAT(plugin_path_files(""), ElementsAre());
  const std::string folder = fs::path(a).parent_path().string();
  EXPECT_THAT(plugin_path_files((kGood + ":" + folder + ":").c_str()), ElementsAre(kGood, a, b));
}

TEST_F(PluginLoading, ASearchPathIsRefusedForWhatIsNotThere) {
  try {
    plugin_path_files((kGood + ":/nowhere/at/all").c_str());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const MissingError& error) {
    EXPECT_STREQ(error.what(), "[runtime.plugin.search_path] there is no '/nowhere/at/all', looked "
                               "at /nowhere/at/all; KVLAB_PLUGIN_PATH lists files and folders, "
                               "separated by colons");
  }
  const std::string folder = fs::path(folder_.write("notes.txt", "")).parent_path().string();
  try {
    plugin_path_files(folder.c_str());
    ADD_FAILURE() << "nothing was thrown";
  } catch (const UserError& error) {
    EXPECT_EQ(std::string(error.what()),
              "[runtime.plugin.search_path] the folder '" + folder +
                  "' of KVLAB_PLUGIN_PATH holds no .so; build the plugin, or take the folder out");
  }
}

}  // namespace
}  // namespace kvlab
