#include "shared_prompt_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

#include "kvlab/runtime/statistics.h"

namespace kvlab::experiments::shared_prompt_kind {

namespace {

size_t index(Mode mode) { return static_cast<size_t>(mode); }

double first_tokens_per_second(const Sample& sample) {
  return 1e9 / static_cast<double>(sample.result.ttft_ns);
}

double tokens_per_second(const Sample& sample) { return sample.tokens_per_second(); }

}  // namespace

double first_ms(const Sample& sample) { return 1e-6 * static_cast<double>(sample.result.ttft_ns); }

Findings::Findings(const SharedPromptConfig& config, const Measured& measured)
    : config_(config), measured_(measured) {
  blocks_ = std::numeric_limits<size_t>::max();
  for (const Variant& variant : measured.variants) {
    if (arm(variant).failure) continue;
    blocks_ = std::min(blocks_, variant.runs.size());
    variants_.push_back(&variant);
  }
  if (variants_.empty()) blocks_ = 0;
  for (size_t i = 0; i < arms().size(); ++i) {
    if (config.is_second_control(arms()[i].config)) again_ = i;
  }
  gains_.resize(arms().size());
  beside_control_.resize(arms().size());
  if (blocks_ > 0) compare();
}

void Findings::compare() {
  struct Question {
    std::optional<Comparison>* answer;
    std::string what;
    PairedSpeeds speeds;
    std::optional<RatioInterval> noise;
  };
  std::vector<Question> questions;
  first_noise_ = noise(Mode::prefill, first_tokens_per_second);
  for (const Mode mode : {Mode::forked, Mode::prefill}) {
    speed_noise_[index(mode)] = noise(mode, tokens_per_second);
  }
  for (const Variant* variant : variants_) {
    if (is_second_control(variant->arm) || !passed(variant->arm)) continue;
    const Variant* own = find(variant->arm, Mode::prefill);
    const Variant* reference = find(control(), variant->mode);
    if (variant->mode == Mode::forked) {
      questions.push_back({&gains_[variant->arm],
                           name(*variant) + " by fork against prefill, first tokens",
                           paired(*variant, *own, first_tokens_per_second), first_noise_});
    }
    if (variant->arm == control() || reference == nullptr || !passed(control())) continue;
    questions.push_back({&beside_control_[variant->arm][index(variant->mode)],
                         fmt::format("{} against {}, both by {}, end to end", name(*variant),
                                     control_name(), mode_name(variant->mode)),
                         paired(*variant, *reference, tokens_per_second),
                         speed_noise_[index(variant->mode)]});
  }
  std::vector<PairedSpeeds> speeds;
  std::vector<std::optional<RatioInterval>> noises;
  for (const Question& question : questions) {
    speeds.push_back(question.speeds);
    noises.push_back(question.noise);
  }
  const std::vector<Comparison> found = compare_arms(speeds, noises);
  for (size_t i = 0; i < questions.size(); ++i) {
    *questions[i].answer = found[i];
    made_.push_back({questions[i].what, found[i]});
  }
}

const Variant* Findings::find(size_t arm, Mode mode) const {
  for (const Variant* variant : variants_) {
    if (variant->arm == arm && variant->mode == mode) return variant;
  }
  return nullptr;
}

bool Findings::judged(size_t arm) const {
  const ArmState& state = arms()[arm];
  return state.fork && state.traits.exact && state.full_precision;
}

bool Findings::judged_by_control(size_t arm) const {
  const ArmState& reference = arms()[control()];
  const bool same_position = !arms()[arm].config.position && !reference.config.position;
  return judged(arm) && same_position && reference.traits.exact && reference.full_precision;
}

bool Findings::passed(size_t arm) const {
  const ArmState& state = arms()[arm];
  return (!judged(arm) || state.fork->equal()) &&
         (!judged_by_control(arm) || state.control->equal());
}

const Comparison* Findings::fork_gain(size_t arm) const {
  return gains_[arm] ? &*gains_[arm] : nullptr;
}

const Comparison* Findings::beside_control(const Variant& variant) const {
  const std::optional<Comparison>& found = beside_control_[variant.arm][index(variant.mode)];
  return found ? &*found : nullptr;
}

std::optional<RatioInterval> Findings::speed_noise(Mode mode) const {
  return speed_noise_[index(mode)];
}

std::optional<RatioInterval> Findings::noise(Mode mode, const Of& speed) const {
  if (!again_) return std::nullopt;
  const Variant* again = find(*again_, mode);
  const Variant* control_run = find(control(), mode);
  if (again == nullptr || control_run == nullptr) return std::nullopt;
  return block_ratio(values(*again, speed), values(*control_run, speed));
}

PairedSpeeds Findings::paired(const Variant& variant, const Variant& against,
                              const Of& speed) const {
  return {values(variant, speed), values(against, speed),
          static_cast<size_t>(contended(variant) + contended(against))};
}

std::vector<double> Findings::values(const Variant& variant, const Of& of) const {
  std::vector<double> all;
  for (size_t i = 0; i < blocks_; ++i) all.push_back(of(variant.runs[i]));
  return all;
}

double Findings::middle(const Variant& variant, const Of& of) const {
  return median(values(variant, of));
}

int64_t Findings::contended(const Variant& variant) const {
  return std::count_if(variant.runs.begin(), variant.runs.end(),
                       [](const Sample& sample) { return sample.contention.contended; });
}

int64_t Findings::expected_forwards(const Variant& variant) const {
  const int64_t rows = config_.continuations, prompt = config_.prompt_tokens();
  int64_t total = variant.mode == Mode::forked ? prompt : rows * prompt;
  if (!arm(variant).traits.keeps_nothing) return total + rows * (config_.new_tokens - 1);
  for (int64_t i = 1; i < config_.new_tokens; ++i) total += rows * (prompt + i);
  return total;
}

}  // namespace kvlab::experiments::shared_prompt_kind
