#include "conversation_findings.h"

#include <fmt/format.h>

#include <algorithm>
#include <limits>

namespace kvlab::experiments::conversation_kind {

namespace {

Of first_speed(size_t turn) {
  return [turn](const Turns& turns) { return 1e9 / static_cast<double>(turns[turn].ttft_ns); };
}

}  // namespace

double first_ms(const Turn& turn) { return 1e-6 * static_cast<double>(turn.ttft_ns); }

double tokens_per_second(const Turns& turns) {
  int64_t tokens = 0, time = 0;
  for (const Turn& turn : turns) {
    tokens += static_cast<int64_t>(turn.answer.size());
    time += turn.ttft_ns + turn.decode_ns;
  }
  return 1e9 * static_cast<double>(tokens) / static_cast<double>(time);
}

Findings::Findings(const ConversationConfig& config, const std::vector<ArmState>& arms,
                   size_t control)
    : config_(config), arms_(arms), control_(control) {
  blocks_ = std::numeric_limits<size_t>::max();
  bool any = false;
  for (size_t arm = 0; arm < arms.size(); ++arm) {
    if (config.is_second_control(arms[arm].config)) again_ = arm;
    if (arms[arm].failure) continue;
    any = true;
    for (const Mode mode : kModes) blocks_ = std::min(blocks_, runs(arm, mode).size());
  }
  if (!any) blocks_ = 0;
  keeping_.assign(arms.size(), std::vector<std::optional<Comparison>>(turns()));
  beside_control_.assign(arms.size(), std::vector<std::optional<Comparison>>(std::size(kModes)));
  if (blocks_ > 0) compare();
}

void Findings::compare() {
  std::vector<std::optional<Comparison>*> answers;
  std::vector<PairedSpeeds> speeds;
  std::vector<std::optional<RatioInterval>> noises;
  for (size_t arm = 0; arm < arms_.size(); ++arm) {
    if (!shown(arm) || is_second_control(arm)) continue;
    for (size_t turn = 0; turn < turns(); ++turn) {
      answers.push_back(&keeping_[arm][turn]);
      speeds.push_back({values(arm, Mode::kept, first_speed(turn)),
                        values(arm, Mode::refed, first_speed(turn)),
                        static_cast<size_t>(contended(arm, Mode::kept, turn) +
                                            contended(arm, Mode::refed, turn))});
      noises.push_back(first_token_noise(turn));
      made_.push_back(
          {fmt::format("{} kept against refed, first token of turn {}", name(arm), turn + 1), {}});
    }
    if (arm == control_ || !shown(control_)) continue;
    for (const Mode mode : kModes) {
      answers.push_back(&beside_control_[arm][mode_index(mode)]);
      speeds.push_back(
          {values(arm, mode, tokens_per_second), values(control_, mode, tokens_per_second),
           static_cast<size_t>(contended(arm, mode) + contended(control_, mode))});
      noises.push_back(speed_noise(mode));
      made_.push_back({fmt::format("{} against {}, both {}, the whole conversation", name(arm),
                                   name(control_), mode_name(mode)),
                       {}});
    }
  }
  const std::vector<Comparison> found = compare_arms(speeds, noises);
  for (size_t i = 0; i < found.size(); ++i) {
    *answers[i] = found[i];
    made_[i].found = found[i];
  }
}

const Comparison* Findings::keeping(size_t arm, size_t turn) const {
  const std::optional<Comparison>& found = keeping_[arm][turn];
  return found ? &*found : nullptr;
}

const Comparison* Findings::beside_control(size_t arm, Mode mode) const {
  const std::optional<Comparison>& found = beside_control_[arm][mode_index(mode)];
  return found ? &*found : nullptr;
}

std::optional<RatioInterval> Findings::first_token_noise(size_t turn) const {
  return noise(Mode::refed, first_speed(turn));
}

std::optional<RatioInterval> Findings::speed_noise(Mode mode) const {
  return noise(mode, tokens_per_second);
}

std::optional<RatioInterval> Findings::noise(Mode mode, const Of& speed) const {
  if (!again_ || !ran(*again_) || !shown(control_)) return std::nullopt;
  return block_ratio(values(*again_, mode, speed), values(control_, mode, speed));
}

std::vector<double> Findings::values(size_t arm, Mode mode, const Of& of) const {
  std::vector<double> all;
  for (size_t i = 0; i < blocks_; ++i) all.push_back(of(runs(arm, mode)[i]));
  return all;
}

std::vector<double> Findings::first_times(size_t arm, Mode mode, size_t turn) const {
  return values(arm, mode, [turn](const Turns& turns) { return first_ms(turns[turn]); });
}

int64_t Findings::contended(size_t arm, Mode mode, size_t turn) const {
  return std::count_if(runs(arm, mode).begin(), runs(arm, mode).end(), [turn](const Turns& turns) {
    return turns[turn].contention.contended;
  });
}

int64_t Findings::contended(size_t arm, Mode mode) const {
  return std::count_if(runs(arm, mode).begin(), runs(arm, mode).end(), [](const Turns& turns) {
    return std::any_of(turns.begin(), turns.end(),
                       [](const Turn& turn) { return turn.contention.contended; });
  });
}

}  // namespace kvlab::experiments::conversation_kind
