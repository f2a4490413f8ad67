// What a run says in sentences.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>

#include "kvlab/runtime/contention.h"
#include "report_parts.h"

namespace kvlab::experiments {

namespace {

// "it holds 31 % fewer bytes": what the cache reserves at the end, beside the control's.
std::string bytes_text(const Findings& f, size_t arm, size_t i) {
  const auto reserved = [&](size_t one) {
    return static_cast<double>(f.samples(one, i).front().result.cache.reserved());
  };
  const double mine = reserved(arm), control = reserved(f.control());
  if (mine == control) return "it holds as many bytes";
  if (control == 0) return fmt::format("it holds {:.3g} MB, the control nothing", mine / kMillion);
  if (mine == 0) return "it holds nothing";
  if (mine > 2 * control) return fmt::format("it holds {:.1f} times the bytes", mine / control);
  const double change = 100 * std::abs(mine / control - 1);
  return fmt::format("it holds {:.{}f} % {} bytes", change, change < 1 ? 2 : 0,
                     mine < control ? "fewer" : "more");
}

std::string arm_sentence(const Findings& f, size_t arm, size_t i) {
  const Comparison& found = *f.comparison(arm, i);
  const SpeedFigure figure = f.config().primary.figure;
  std::string text = fmt::format("{} is {:.2f}x {} of {}", f.name(arm), found.ratio.ratio,
                                 interval_text(found.ratio), f.name(f.control()));
  if (figure != SpeedFigure::tokens_per_second) {
    text += fmt::format(" by {}", figure_name(figure));
  }
  text += fmt::format(": {}", verdict_name(found.verdict));
  if (found.verdict == Verdict::refused || found.ratio.excludes()) {
    text += fmt::format(" ({})", found.reason);
  }
  text += "; " + bytes_text(f, arm, i);
  const auto even = f.usual_break_even(arm, i);
  if (even && found.verdict == Verdict::faster) {
    text += fmt::format("; it pays from {} new token(s) on", *even);
  }
  const GateResult& gate = f.cases()[i].gate[arm];
  if (!gate.exact_arm) {
    text += fmt::format("; approximate, KL {:.3g} nats/token", gate.distance.mean_kl);
  }
  return text + ".";
}

std::string why_no_speed(const Findings& f, size_t arm, size_t i) {
  if (f.arms()[arm].failure) return "it failed";
  if (f.cases()[i].gate[arm].passed) return "no block was finished";
  return "it is not equal";
}

std::string noise_sentence(const Findings& f, size_t i) {
  const auto noise = f.noise(i);
  if (!noise) return "";
  return fmt::format("Noise: {} measured a second time is {:.2f}x {} of itself; a difference within "
                     "that is none.",
                     f.name(f.control()), noise->ratio, interval_text(*noise));
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
  if (largest > 0) {
    sentences.push_back(fmt::format(
        "A decode step reads {:.0f} MB of weights and at the end at most {:.1f} MB of K and V "
        "({:.1f} %): saving cache memory cannot make this run faster by more than that share.",
        weights / kMillion, static_cast<double>(largest) / kMillion,
        100 * static_cast<double>(largest) / (weights + static_cast<double>(largest))));
  }
  if (const auto shares = f.shares(f.control(), i)) {
    sentences.push_back(fmt::format("{} is {}.", f.name(f.control()), shares->describe()));
  }
  return sentences;
}

}  // namespace

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
  const std::string noise = noise_sentence(f, i);
  if (!noise.empty()) sentences.push_back(where + noise);
  for (const std::string& sentence : explain_bound(f, i)) sentences.push_back(where + sentence);
  const int suspended = f.arms()[f.control()].suspended_blocks[i];
  if (suspended > 0) {
    sentences.push_back(fmt::format("{}{} block(s) are left out: the process stood still in them.",
                                    where, suspended));
  }
  return sentences;
}

ReportSection without_significance(const Findings& f) {
  ReportSection section;
  section.title = "Differences that are not significant";
  for (size_t i = 0; i < f.cases().size(); ++i) {
    const std::string where = f.cases().size() == 1 ? "" : f.cases()[i].one.label() + ": ";
    for (size_t arm = 0; arm < f.arms().size(); ++arm) {
      const Comparison* found = f.comparison(arm, i);
      if (found == nullptr || found->verdict == Verdict::faster ||
          found->verdict == Verdict::slower) {
        continue;
      }
      section.paragraphs.push_back(fmt::format(
          "{}{} against {}: {:.3f}x {}, {}: {}.", where, f.name(arm), f.name(f.control()),
          found->ratio.ratio, interval_text(found->ratio), verdict_name(found->verdict),
          found->reason));
    }
  }
  if (f.comparisons() > 0 && section.paragraphs.empty()) {
    section.paragraphs.push_back("None: every arm was told apart from the control.");
  }
  section.paragraphs.push_back(
      fmt::format("{} comparison(s) were made. {}", f.comparisons(), verdict_rule()));
  section.paragraphs.push_back(contention_rule());
  return section;
}

}  // namespace kvlab::experiments
