// What a run says in sentences.
#include <fmt/format.h>

#include <algorithm>

#include "kvlab/runtime/comparison_text.h"
#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/memory_floor.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"

namespace kvlab::experiments {

namespace {

// What the cache reserves at the end, beside the control's.
std::string bytes_text(const Findings& f, size_t arm, size_t i) {
  const auto reserved = [&](size_t one) {
    return f.samples(one, i).front().result.cache.reserved();
  };
  return held_bytes_text(reserved(arm), reserved(f.control()));
}

std::string arm_sentence(const Findings& f, size_t arm, size_t i) {
  const Comparison& found = *f.comparison(arm, i);
  const SpeedFigure figure = f.config().primary.figure;
  std::string text =
      comparison_text(f.name(arm), f.name(f.control()), found,
                      figure == SpeedFigure::tokens_per_second ? "" : figure_name(figure));
  text += "; " + bytes_text(f, arm, i);
  const auto even = f.usual_break_even(arm, i);
  if (even && found.verdict == Verdict::faster) {
    text += fmt::format("; it pays from {} new token(s) on", *even);
  }
  const GateResult& gate = f.cases()[i].gate[arm];
  if (!gate.exact_arm) {
    text += fmt::format("; approximate, KL {:.3g} nats/token", gate.kl());
  } else if (!gate.lossless()) {
    text += fmt::format("; exact but for its dtype, which costs KL {:.3g} nats/token", gate.kl());
  }
  return text + ".";
}

std::string why_no_speed(const Findings& f, size_t arm, size_t i) {
  if (f.arms()[arm].failure) return "it failed";
  if (f.cases()[i].gate[arm].passed) return "no block was finished";
  return "it is not equal";
}

// "; a step takes 21.3 ms, 71 % of it the floor of reading its bytes".
std::string floor_text(const Findings& f, size_t arm, size_t i) {
  const auto floor = f.floor(arm, i);
  const auto step = f.step_ms(arm, i);
  if (!floor || !step) return "";
  return fmt::format("; a step takes {:.3g} ms, reading its bytes {:.3g} ms: {:.0f} % of the "
                     "memory-bandwidth floor",
                     *step, floor->floor_ms, 100 * median(floor->shares));
}

// What bounds the arms beside the control: "The others: paged weight-bound at 70 % of the floor."
std::string other_bounds(const Findings& f, size_t i) {
  std::string text;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (arm == f.control() || f.is_second_control(arm) || !f.shown(arm, i)) continue;
    const auto shares = f.shares(arm, i);
    if (!shares) continue;
    text += fmt::format("{}{} {}-bound", text.empty() ? "The others: " : ", ", f.name(arm),
                        bound_name(shares->bound()));
    if (const auto floor = f.floor(arm, i)) {
      text += fmt::format(" at {:.0f} % of its floor", 100 * median(floor->shares));
    }
  }
  return text.empty() ? text : text + ".";
}

bool is_faster(const Findings& f, size_t arm, size_t reference, size_t i) {
  if (reference == f.control()) {
    const Comparison* found = f.comparison(arm, i);
    return found != nullptr && found->verdict == Verdict::faster;
  }
  return f.judge(arm, reference, i).verdict == Verdict::faster;
}

// Empty unless the arm holds less than the reference and is not faster.
std::string why_not_faster(const Findings& f, size_t arm, size_t reference, size_t i) {
  if (arm == reference || f.is_second_control(arm) || !f.shown(arm, i)) return "";
  const Sample& mine = f.samples(arm, i).front();
  const Sample& other = f.samples(reference, i).front();
  const auto reserved = static_cast<double>(mine.result.cache.reserved());
  const double saved = 1 - reserved / static_cast<double>(other.result.cache.reserved());
  constexpr double kNothing = 0.01;  // of the bytes: not worth a sentence
  if (reserved == 0 || mine.kv_read == 0 || saved < kNothing || is_faster(f, arm, reference, i)) {
    return "";
  }
  const auto weights = static_cast<double>(f.arms()[reference].model.weight_bytes);
  const double read_less = other.kv_read - mine.kv_read;
  std::string text = fmt::format(
      "{} reserves {:.0f} % fewer bytes than {} and was not found faster: ", f.name(arm),
      100 * saved, f.name(reference));
  if (read_less < kNothing * other.kv_read) {
    text += "a step reads as much K and V; what is saved is room that nobody reads";
  } else {
    text += fmt::format("a step reads {:.3g} MB of K and V less", read_less / kMillion);
    if (weights >= double{kSmallestStreamedWeights}) {
      text += fmt::format(", {:.1f} % of all that it reads",
                          100 * read_less / (weights + other.kv_read));
    }
  }
  const double time = f.attention_and_cache_ms(arm, i);
  const double other_time = f.attention_and_cache_ms(reference, i);
  if (time > 0 && other_time > 0) {
    text += fmt::format(", and its attention and cache take {:.3g} ms of a step against {:.3g} ms",
                        time, other_time);
  }
  return text + ".";
}

// The fastest beside the runner-up, where both are other arms than the control.
std::string lead_sentence(const Findings& f, size_t i) {
  const auto lead = f.lead(i);
  if (!lead || lead->first == f.control() || lead->second == f.control()) return "";
  return fmt::format("The fastest arm by {}, {}, is {:.2f}x {} of the next, {}: {}.",
                     figure_name(f.config().primary.figure), f.name(lead->first),
                     lead->found.ratio.ratio, interval_text(lead->found.ratio),
                     f.name(lead->second), verdict_name(lead->found.verdict));
}

// Why an arm that saves memory need not be faster: what a decode step reads, and where its time
// goes.
std::vector<std::string> explain_bound(const Findings& f, size_t i) {
  const auto weights = static_cast<double>(f.arms()[f.control()].model.weight_bytes);
  int64_t largest = 0;
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (!f.arms()[arm].failure && !f.samples(arm, i).empty()) {
      largest = std::max(largest, f.samples(arm, i).front().result.payload);
    }
  }
  std::vector<std::string> sentences;
  if (largest > 0 && weights >= double{kSmallestStreamedWeights}) {
    sentences.push_back(fmt::format(
        "A decode step reads {:.0f} MB of weights and at the end at most {:.1f} MB of K and V: "
        "{:.1f} % of the bytes are the cache's.",
        weights / kMillion, static_cast<double>(largest) / kMillion,
        100 * static_cast<double>(largest) / (weights + static_cast<double>(largest))));
  }
  if (const auto shares = f.shares(f.control(), i)) {
    sentences.push_back(fmt::format("{} is {}{}.", f.name(f.control()), shares->describe(),
                                    floor_text(f, f.control(), i)));
  }
  const std::string others = other_bounds(f, i);
  if (!others.empty()) sentences.push_back(others);
  return sentences;
}

}  // namespace

std::vector<std::string> explain_savings(const Findings& f, size_t i) {
  std::vector<std::string> sentences;
  const auto reference = f.memory_reference(i);
  for (size_t arm = 0; reference && arm < f.arms().size(); ++arm) {
    std::string sentence = why_not_faster(f, arm, *reference, i);
    if (!sentence.empty()) sentences.push_back(std::move(sentence));
  }
  return sentences;
}

std::vector<std::string> conclude(const Findings& f, size_t i) {
  std::vector<std::string> sentences;
  if (!f.shown(f.control(), i)) return sentences;
  const std::string where = f.cases().size() == 1 ? "" : f.cases()[i].one.label() + ": ";
  for (size_t arm = 0; arm < f.arms().size(); ++arm) {
    if (arm == f.control() || (f.is_second_control(arm) && f.shown(arm, i))) continue;
    sentences.push_back(where + (f.shown(arm, i)
                                     ? arm_sentence(f, arm, i)
                                     : fmt::format("{}: no speed is given, {}.", f.name(arm),
                                                   why_no_speed(f, arm, i))));
  }
  const std::string lead = lead_sentence(f, i);
  if (!lead.empty()) sentences.push_back(where + lead);
  if (const auto noise = f.noise(i)) {
    sentences.push_back(where + noise_text(f.name(f.control()), *noise));
  }
  for (const std::string& sentence : explain_bound(f, i)) sentences.push_back(where + sentence);
  // Against another arm than the control they stand in the case's section.
  if (f.memory_reference(i) == f.control()) {
    for (const std::string& sentence : explain_savings(f, i)) sentences.push_back(where + sentence);
  }
  const int suspended = f.arms()[f.control()].suspended_blocks[i];
  if (suspended > 0) {
    sentences.push_back(fmt::format("{}{} block(s) are left out: the process stood still in them.",
                                    where, suspended));
  }
  return sentences;
}

ReportSection without_significance(const Findings& f) {
  std::vector<NamedComparison> made;
  for (size_t i = 0; i < f.cases().size(); ++i) {
    const std::string where = f.cases().size() == 1 ? "" : f.cases()[i].one.label() + ": ";
    for (size_t arm = 0; arm < f.arms().size(); ++arm) {
      const Comparison* found = f.comparison(arm, i);
      if (found == nullptr) continue;
      made.push_back({where + f.name(arm) + " against " + f.name(f.control()), *found});
    }
  }
  return kvlab::without_significance(made);
}

}  // namespace kvlab::experiments
