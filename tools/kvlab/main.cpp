#include <iostream>
#include "kvlab/runtime/generator.h"
#include "kvlab/runtime/process.h"
using namespace kvlab;
int main(int argc, char** argv) {
  try {
  prepare_process(); set_threads(2);
  Registry registry; register_builtin_plugins(registry);
  Model model = load_model(model_source_from_argument(argv[1]), at::kFloat, at::kFloat);
  SessionOptions options; options.cache = parse_component_spec(argv[3]);
  if (argc > 4) options.attention.type = argv[4];
  options.max_length = 512;
  Session session(model, registry, options);
  GenerateOptions g; g.new_tokens = 64;
  auto ids = model.tokenizer->encode(argv[2]);
  auto result = generate(session, {ids}, g);
  std::cout << model.tokenizer->decode(result.tokens[0]) << "\n";
  for (auto t : result.tokens[0]) std::cout << t << ' ';
  std::cout << "\nttft " << result.ttft_ns / 1e6 << " ms, tpot " << double(result.decode_ns()) / result.token_ns.size() / 1e6 << " ms; storage " << result.cache.peak_total << " payload " << result.payload << "\n";
  } catch (const std::exception& e) { std::cerr << e.what() << "\n"; return 1; }
}
