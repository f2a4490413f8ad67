// What a run on a shared prompt says in sentences.
#include <fmt/format.h>

#include "report_parts.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

constexpr const char* kFirstTokens = "speed to the first token of all rows";
constexpr const char* kEndToEnd = "tokens/s end to end";

const GenerateResult& last_run(const Findings& f, const Variant& variant) {
  return variant.runs[f.blocks() - 1].result;
}

std::string peak_text(const Findings& f, const Variant& variant, const Variant& against) {
  return held_bytes_text(last_run(f, variant).cache.peak_total,
                         last_run(f, against).cache.peak_total) +
         " at its peak";
}

// What forking saves within one arm.
std::string fork_sentence(const Findings& f, const Variant& forked, const Variant& own) {
  const std::string& name = f.name(forked);
  const Comparison* gain = f.fork_gain(forked.arm);
  if (gain == nullptr) {
    return fmt::format("{}: no speed is given, its texts are not what they must be.", name);
  }
  std::string text = comparison_text(name + " forked", "itself prefilled", *gain, kFirstTokens);
  text += fmt::format("; {} token-forwards instead of {}, the forks moved {:.2f} MiB",
                      last_run(f, forked).work.token_forwards, last_run(f, own).work.token_forwards,
                      static_cast<double>(last_run(f, forked).fork_bytes_moved) / kMebibyte);
  if (!f.arm(forked).traits.keeps_nothing) text += "; " + peak_text(f, forked, own);
  return text + ".";
}

std::string beside_sentence(const Findings& f, const Variant& forked) {
  const Variant* reference = f.find(f.control(), Mode::forked);
  const Comparison* found = f.beside_control(forked);
  if (found == nullptr || reference == nullptr) return "";
  std::string text =
      comparison_text(f.name(forked) + " forked", f.control_name() + " forked", *found, kEndToEnd) +
      "; " + peak_text(f, forked, *reference);
  if (!f.arm(forked).traits.exact) text += "; approximate";
  return text + ".";
}

}  // namespace

std::vector<std::string> conclude(const Findings& f) {
  std::vector<std::string> gains, beside, noises;
  for (const Variant* variant : f.variants()) {
    if (variant->mode != Mode::forked || f.is_second_control(variant->arm)) continue;
    gains.push_back(fork_sentence(f, *variant, *f.find(variant->arm, Mode::prefill)));
    const std::string sentence = beside_sentence(f, *variant);
    if (!sentence.empty()) beside.push_back(sentence);
  }
  if (const auto noise = f.first_token_noise()) {
    noises.push_back(noise_text(f.control_name() + " prefilled", *noise, kFirstTokens));
  }
  for (const Mode mode : {Mode::forked, Mode::prefill}) {
    const auto noise = f.speed_noise(mode);
    if (!noise) continue;
    const char* how = mode == Mode::forked ? " forked" : " prefilled";
    noises.push_back(noise_text(f.control_name() + how, *noise, kEndToEnd));
  }
  std::vector<std::string> sentences;
  for (auto* part : {&gains, &beside, &noises}) {
    sentences.insert(sentences.end(), part->begin(), part->end());
  }
  if (f.suspended() > 0) {
    sentences.push_back(fmt::format("{} block(s) are left out: the process stood still in them.",
                                    f.suspended()));
  }
  return sentences;
}

}  // namespace kvlab::experiments::shared_prompt_kind
