// What a case says in sentences.
#include <fmt/format.h>

#include "kvlab/runtime/statistics.h"
#include "report_parts.h"
#include "speed_memory.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// What an arm that copies its entries costs, beside what its bytes say.
void conclude_about_copies(std::vector<std::string>& sentences, const Findings& f,
                           const CaseResult& one, const DepthResult& at, const std::string& where) {
  for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
    const ArmAtDepth& found = at.arms[arm];
    const bool copies = found.copied_bytes > 0.5 * found.kv_bytes && found.kv_bytes > 0;
    if (arm == f.control() || !f.shown(at, arm) || !copies) continue;
    if (!f.has_by_bytes(at, arm)) continue;
    if (f.contended(one, at, arm) || f.contended(one, at, f.control())) continue;
    const RatioInterval measured = f.against_control(one, at, arm);
    const double predicted = f.by_bytes(one, at, arm);
    std::string verdict = "its bytes are within the interval";
    if (!measured.low) {
      verdict = "no verdict";
    } else if (measured.excludes(predicted)) {
      verdict = fmt::format("{:+.0f} % against what its bytes say",
                            100 * (measured.ratio / predicted - 1));
    }
    sentences.push_back(fmt::format(
        "{}{} copies {} MB per token; by its bytes it would take {} times the control's time, "
        "measured {}: {}.",
        where, f.name(arm), digits(found.copied_bytes / kMillion), digits(predicted),
        interval_text(measured), verdict));
  }
}

void compare(std::vector<std::string>& sentences, const Findings& f, const CaseResult& one,
             const DepthResult& at) {
  const size_t control = f.control();
  const std::optional<size_t> again = f.second_control();
  const RatioInterval noise =
      again && f.shown(at, *again) ? f.against_control(one, at, *again) : RatioInterval{};
  const auto is_noise = [&](size_t arm, double ratio) {
    return arm == again || (noise.low && ratio >= *noise.low && ratio <= *noise.high);
  };
  const std::string where = fmt::format("{}, depth {}: ", one.label(), at.depth);
  std::vector<std::string> slower, faster, same, single, busy;
  bool compared = false;
  const bool control_busy = f.contended(one, at, control);
  for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
    if (arm == control || !f.shown(at, arm)) continue;
    compared = true;
    if (control_busy) continue;
    if (f.contended(one, at, arm)) {
      busy.push_back(f.name(arm));
      continue;
    }
    const RatioInterval ratio = f.against_control(one, at, arm);
    std::vector<std::string>& verdict = !ratio.low                                        ? single
                                        : !ratio.excludes() || is_noise(arm, ratio.ratio) ? same
                                        : ratio.ratio > 1                                 ? slower
                                                                                          : faster;
    verdict.push_back(f.name(arm) + " " + (ratio.low ? interval_text(ratio) : digits(ratio.ratio)));
  }
  if (!compared) return;
  std::string text;
  if (!slower.empty()) text += " Slower: " + joined(slower) + ".";
  if (!faster.empty()) text += " Faster: " + joined(faster) + ".";
  if (!same.empty()) text += " Not distinguishable: " + joined(same) + ".";
  if (!single.empty()) text += " One block: no verdict (" + joined(single) + ").";
  if (!busy.empty()) {
    text += fmt::format(" No verdict on {}: other processes took the cores in most of their runs.",
                        joined(busy));
  }
  if (control_busy) {
    text += fmt::format(
        " No verdict on any arm: other processes took the cores in most runs of "
        "the control, {}.",
        f.name(control));
  }
  sentences.push_back(
      fmt::format("{}time of a token over that of {}.{}", where, f.name(control), text));
  conclude_about_copies(sentences, f, one, at, where);
}

}  // namespace

std::vector<std::string> conclude(const Findings& f, const CaseResult& one) {
  std::vector<std::string> sentences;
  const DepthResult* deepest = nullptr;
  std::vector<std::string> depths;
  for (const DepthResult& at : one.depths) {
    if (!f.shown(at, f.control())) continue;
    deepest = &at;
    const Timing times = f.timing(one, at, f.control());
    const ArmAtDepth& control = at.arms[f.control()];
    const std::string share =
        f.recomputes(control) ? ""
                              : fmt::format("{:.0f} % of the floor, ", 100 * median(times.share));
    depths.push_back(fmt::format("{} ms at depth {} ({}{})", digits(median(times.ms)), at.depth,
                                 share, f.bound_words(control)));
  }
  if (deepest == nullptr) return sentences;
  sentences.push_back(
      fmt::format("{}: {} takes per token {}.", one.label(), f.name(f.control()), joined(depths)));
  for (const DepthResult& at : one.depths) {
    if (f.shown(at, f.control())) compare(sentences, f, one, at);
  }
  const std::string memory = memory_sentence(f.config(), *deepest);
  if (!memory.empty()) {
    sentences.push_back(fmt::format("{}, depth {}: {}", one.label(), deepest->depth, memory));
  }
  return sentences;
}

}  // namespace kvlab::experiments::decode_speed_kind
