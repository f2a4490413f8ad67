// What a case says in sentences.
#include <fmt/format.h>

#include "kvlab/runtime/contention.h"
#include "kvlab/runtime/statistics.h"
#include "report_parts.h"
#include "speed_memory.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// "1.02x [0.99, 1.05] of preallocated at depth 960: not distinguishable".
std::string verdict_text(const Findings& f, const DepthResult& at, size_t arm, bool first) {
  const Comparison& found = *f.comparison(at, arm);
  std::string text = fmt::format("{}x {}{} at depth {}: {}", ratio_digits(found.ratio.ratio),
                                 interval_text(found.ratio),
                                 first ? " of " + f.name(f.control()) : "", at.depth,
                                 verdict_name(found.verdict));
  if (found.verdict == Verdict::refused || found.ratio.excludes()) {
    text += fmt::format(" ({})", found.reason);
  }
  return text;
}

// What an arm that copies its entries costs, beside what its bytes say.
std::string copies_text(const Findings& f, const CaseResult& one, const DepthResult& at,
                        size_t arm) {
  const ArmAtDepth& found = at.arms[arm];
  const bool copies = found.copied_bytes > 0.5 * found.kv_bytes && found.kv_bytes > 0;
  if (!copies || !f.has_by_bytes(at, arm)) return "";
  const RatioInterval measured = f.time_ratio(at, arm);
  const double predicted = f.by_bytes(one, at, arm);
  std::string verdict = "which the interval holds";
  if (!measured.low || f.comparison(at, arm)->verdict == Verdict::refused) {
    verdict = "no verdict";
  } else if (measured.excludes(predicted)) {
    verdict = fmt::format("{:+.0f} % against that", 100 * (measured.ratio / predicted - 1));
  }
  return fmt::format("; it copies {} MB per step, by its bytes {} times the control's time, "
                     "measured {} {}, {}",
                     digits(found.copied_bytes / kMillion), ratio_digits(predicted),
                     ratio_digits(measured.ratio), interval_text(measured), verdict);
}

// Why an arm that holds fewer bytes than the control did not get faster.
std::string why_not_faster(const Findings& f, const CaseResult& one, const DepthResult& at,
                           size_t arm) {
  const Verdict verdict = f.comparison(at, arm)->verdict;
  if (verdict == Verdict::faster || !holds_less(f.config(), at, arm)) return "";
  const ArmAtDepth& mine = at.arms[arm];
  const ArmAtDepth& control = at.arms[f.control()];
  const std::string but = verdict == Verdict::refused
                              ? "; without a verdict nobody knows whether it is faster for that: "
                              : "; it is not faster for that: ";
  if (f.recomputes(mine)) return but + "it computes all earlier tokens again in every step";
  const double saved = control.kv_bytes - mine.kv_bytes;
  if (saved <= 0.005 * control.kv_bytes) {
    return but + "a step reads as many bytes of K and V, only fewer are set aside";
  }
  const std::string bound = mine.shares ? ", and is " + mine.shares->describe() : "";
  return fmt::format("{}a step reads {:.0f} % fewer bytes of K and V, which is {:.1f} % of all "
                     "that a step of the control reads{}",
                     but, 100 * saved / control.kv_bytes,
                     100 * saved / f.step_bytes(one, control).total(), bound);
}

std::string arm_sentence(const Findings& f, const CaseResult& one, size_t arm) {
  std::string text;
  const DepthResult* deepest = nullptr;
  std::string without;
  for (const DepthResult& at : one.depths) {
    if (f.comparison(at, arm) == nullptr) {
      if (f.shown(at, f.control())) {
        without += fmt::format("; no speed at depth {}: {}", at.depth, f.equality(one, at, arm));
      }
      continue;
    }
    text += (deepest == nullptr ? " is " : "; ") + verdict_text(f, at, arm, deepest == nullptr);
    deepest = &at;
  }
  if (deepest == nullptr) return without.empty() ? "" : f.name(arm) + ":" + without.substr(1) + ".";
  const std::string held = held_text(f.config(), *deepest, arm);
  if (!held.empty()) text += fmt::format("; at depth {} {}", deepest->depth, held);
  text += why_not_faster(f, one, *deepest, arm) + copies_text(f, one, *deepest, arm);
  if (f.recomputes(deepest->arms[arm])) text += fmt::format("; {}", kNoFloor);
  const ArmVerdict& verdict = deepest->arms[arm].verdict;
  if (!verdict.exact) {
    text += fmt::format("; approximate, KL {:.3g} nats/token", verdict.distance.mean_kl);
  }
  return f.name(arm) + text + without + ".";
}

// What a step of the control takes, and what limits it.
std::string control_sentence(const Findings& f, const CaseResult& one) {
  std::vector<std::string> depths;
  for (const DepthResult& at : one.depths) {
    if (!f.shown(at, f.control())) continue;
    const Timing times = f.timing(one, at, f.control());
    const ArmAtDepth& control = at.arms[f.control()];
    const std::string share =
        f.recomputes(control) ? std::string(kNoFloor) + ", "
                              : fmt::format("{:.0f} % of the floor, ", 100 * median(times.share));
    depths.push_back(fmt::format("{} ms at depth {} ({}{})", digits(median(times.ms)), at.depth,
                                 share, f.bound_words(control)));
  }
  if (depths.empty()) return "";
  return fmt::format("{} takes per step {}.", f.name(f.control()), joined(depths));
}

std::string noise_text(const Findings& f, const CaseResult& one) {
  std::vector<std::string> depths;
  for (const DepthResult& at : one.depths) {
    if (const auto noise = f.noise(at)) {
      depths.push_back(fmt::format("{}x {} of itself at depth {}", ratio_digits(noise->ratio),
                                   interval_text(*noise), at.depth));
    }
  }
  return joined(depths);
}

std::string noise_sentence(const Findings& f, const CaseResult& one) {
  const std::string noise = noise_text(f, one);
  if (noise.empty()) return "";
  return fmt::format("Noise: {} measured a second time is {}; a difference within that is none.",
                     f.name(f.control()), noise);
}

// How much a cache can save at most.
std::string bytes_sentence(const Findings& f, const CaseResult& one) {
  const DepthResult* deepest = nullptr;
  for (const DepthResult& at : one.depths) {
    if (f.shown(at, f.control()) && !f.recomputes(at.arms[f.control()])) deepest = &at;
  }
  if (deepest == nullptr) return "";
  const StepBytes bytes = f.step_bytes(one, deepest->arms[f.control()]);
  return fmt::format("A step of {} reads {} MB of weights and at depth {} {} MB of K and V "
                     "({:.1f} %): where reading is the limit, no cache can save more of its time.",
                     f.name(f.control()), digits(bytes.weights / kMillion), deepest->depth,
                     digits(bytes.kv / kMillion), 100 * bytes.kv / bytes.total());
}

std::string suspended_sentence(const CaseResult& one) {
  int blocks = 0;
  for (const DepthResult& at : one.depths) blocks += at.suspended_blocks;
  if (blocks == 0) return "";
  return fmt::format("{} block(s) are left out: the process stood still in them.", blocks);
}

// "12 of 60 samples were flagged".
std::string flagged_text(const Findings& f, const CaseResult& one) {
  size_t flagged = 0, samples = 0;
  for (const DepthResult& at : one.depths) {
    for (size_t arm = 0; arm < at.arms.size(); ++arm) {
      flagged += f.flagged(at, arm);
      samples += at.arms[arm].runs.size();
    }
  }
  return fmt::format("{} of {} samples were flagged", flagged, samples);
}

}  // namespace

std::vector<std::string> conclude(const Findings& f, const CaseResult& one) {
  std::vector<std::string> sentences;
  const auto say = [&](const std::string& sentence) {
    if (!sentence.empty()) sentences.push_back(sentence);
  };
  say(control_sentence(f, one));
  for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
    if (arm != f.control() && !f.is_second_control(arm)) say(arm_sentence(f, one, arm));
  }
  say(noise_sentence(f, one));
  say(bytes_sentence(f, one));
  say(suspended_sentence(one));
  if (one.interrupted) say("Interrupted, whole blocks only.");
  return sentences;
}

ReportSection without_significance(const Findings& f) {
  ReportSection section;
  section.title = "Differences that are not significant";
  for (const CaseResult& one : f.cases()) {
    for (const DepthResult& at : one.depths) {
      for (size_t arm = 0; arm < at.arms.size(); ++arm) {
        const Comparison* found = f.comparison(at, arm);
        if (found == nullptr || found->verdict == Verdict::faster ||
            found->verdict == Verdict::slower) {
          continue;
        }
        section.paragraphs.push_back(fmt::format(
            "{}: {} against {}: {}x {}, {}: {}.", place_words(f, one, at), f.name(arm),
            f.name(f.control()), ratio_digits(found->ratio.ratio), interval_text(found->ratio),
            verdict_name(found->verdict), found->reason));
      }
    }
  }
  if (f.comparisons() > 0 && section.paragraphs.empty()) {
    section.paragraphs.push_back("None: every arm was told apart from the control.");
  }
  for (const CaseResult& one : f.cases()) {
    const std::string noise = noise_text(f, one);
    section.paragraphs.push_back(fmt::format(
        "{}: {}. {}.", one.label(), flagged_text(f, one),
        noise.empty() ? std::string("The noise was not measured")
                      : fmt::format("Noise: {} is {}", f.name(f.control()), noise)));
  }
  section.paragraphs.push_back(fmt::format(
      "{} comparison(s) were made, of all arms at all depths of all cases together. {}",
      f.comparisons(), verdict_rule()));
  section.paragraphs.push_back(contention_rule());
  return section;
}

}  // namespace kvlab::experiments::decode_speed_kind
