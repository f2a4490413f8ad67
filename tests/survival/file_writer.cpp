// kvlab_file_writer FILE TEXT...: writes each text atomically to the file, one after another, and
// says after which it is done. A program without a thread or an experiment, so that its operations
// are few.
#include <cstdio>
#include <exception>

#include "kvlab/runtime/durable_file.h"

int main(int argc, char** argv) {
  for (int i = 2; i < argc; ++i) {
    try {
      kvlab::write_file_atomically(argv[1], argv[i]);
      std::printf("wrote %d\n", i - 1);
    } catch (const std::exception& error) {
      std::fprintf(stderr, "%s\n", error.what());
      return 1;
    }
  }
  return 0;
}
