// What all cases of a run say together, as its conclusions.
#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <tuple>

#include "kvlab/runtime/statistics.h"
#include "report_parts.h"
#include "speed_memory.h"

namespace kvlab::experiments::decode_speed_kind {

namespace {

// More places than this are counted, not named.
constexpr size_t kMostNamed = 3;

struct Place {
  const CaseResult* one = nullptr;
  const DepthResult* at = nullptr;

  // Where caches differ most: many tokens, then many rows.
  bool deeper_than(const Place& other) const {
    return std::tuple(at->depth, one->batch) > std::tuple(other.at->depth, other.one->batch);
  }
};

// The first of the deepest.
const Place& deepest(const std::vector<Place>& places) {
  const Place* found = &places.front();
  for (const Place& place : places) {
    if (place.deeper_than(*found)) found = &place;
  }
  return *found;
}

std::vector<Place> places_of_control(const Findings& f) {
  std::vector<Place> found;
  for (const CaseResult& one : f.cases()) {
    for (const DepthResult& at : one.depths) {
      if (!at.arms.empty() && f.shown(at, f.control())) found.push_back({&one, &at});
    }
  }
  return found;
}

std::string where(const Findings& f, const Place& place) {
  return place_words(f, *place.one, *place.at);
}

// "slower at batch 8, depth 960", "not distinguishable in 9 of 12".
std::string verdict_words(const Findings& f, Verdict verdict, const std::vector<Place>& places,
                          size_t all) {
  const bool differs = verdict == Verdict::faster || verdict == Verdict::slower;
  const char* name = verdict_name(verdict);
  if (places.size() == all && all > 1) return fmt::format("{} in all {} comparisons", name, all);
  if (!differs && all > 1) return fmt::format("{} in {} of {}", name, places.size(), all);
  if (places.size() > kMostNamed) return fmt::format("{} in {} of {}", name, places.size(), all);
  std::vector<std::string> words;
  for (const Place& place : places) words.push_back(where(f, place));
  return fmt::format("{} at {}", name, joined(words, " and at "));
}

std::string deepest_words(const Findings& f, const Place& place, size_t arm, size_t all) {
  const Comparison& found = *f.comparison(*place.at, arm);
  std::string text =
      all > 1 ? fmt::format(". Deepest ({}): {}, ", where(f, place), verdict_name(found.verdict))
              : std::string(", ");
  text += fmt::format("{}x {} the speed of {}", ratio_digits(found.ratio.ratio),
                      interval_text(found.ratio), f.name(f.control()));
  const std::string held = held_text(f.config(), *place.at, arm);
  if (!held.empty()) text += "; " + held;
  const ArmVerdict& verdict = place.at->arms[arm].verdict;
  if (!verdict.exact) {
    text += fmt::format("; approximate, KL {:.3g} nats/token", verdict.distance.mean_kl);
  }
  return text;
}

std::string arm_answer(const Findings& f, const std::vector<Place>& control, size_t arm) {
  std::vector<Place> compared, without;
  for (const Place& place : control) {
    (f.comparison(*place.at, arm) != nullptr ? compared : without).push_back(place);
  }
  std::string text = f.name(arm);
  if (!compared.empty()) {
    std::vector<std::string> words;
    for (const Verdict verdict : {Verdict::faster, Verdict::slower, Verdict::not_distinguishable,
                                  Verdict::refused}) {
      std::vector<Place> places;
      for (const Place& place : compared) {
        if (f.comparison(*place.at, arm)->verdict == verdict) places.push_back(place);
      }
      if (!places.empty()) words.push_back(verdict_words(f, verdict, places, compared.size()));
    }
    text += " is " + joined(words) + deepest_words(f, deepest(compared), arm, compared.size());
  }
  if (!without.empty()) {
    const Place& place = without.front();
    text += fmt::format("{} no speed at {}{}: {}", compared.empty() ? " has" : ";",
                        where(f, place),
                        without.size() > 1 ? fmt::format(" and {} more", without.size() - 1) : "",
                        f.equality(*place.one, *place.at, arm));
  }
  return text + ".";
}

double control_ms(const Findings& f, const Place& place) {
  return median(f.timing(*place.one, *place.at, f.control()).ms);
}

std::string control_answer(const Findings& f, const std::vector<Place>& places) {
  const auto by_time = [&](const Place& a, const Place& b) {
    return control_ms(f, a) < control_ms(f, b);
  };
  const auto [least, most] = std::minmax_element(places.begin(), places.end(), by_time);
  std::string text = fmt::format("A step of {} takes {} ms ({})", f.name(f.control()),
                                 digits(control_ms(f, *least)), where(f, *least));
  if (digits(control_ms(f, *least)) != digits(control_ms(f, *most))) {
    text += fmt::format(" to {} ms ({})", digits(control_ms(f, *most)), where(f, *most));
  }
  const Place& deep = deepest(places);
  const ArmAtDepth& control = deep.at->arms[f.control()];
  text += fmt::format(" and gives every row one token; at {} it is {}", where(f, deep),
                      f.bound_words(control));
  if (f.recomputes(control)) return text + fmt::format(", with {}.", kNoFloor);
  const Timing times = f.timing(*deep.one, *deep.at, f.control());
  const StepBytes bytes = f.step_bytes(*deep.one, control);
  return text + fmt::format(", {:.0f} % of the floor that its bytes set, of which {:.1f} % are K "
                            "and V.",
                            100 * median(times.share), 100 * bytes.kv / bytes.total());
}

std::string noise_answer(const Findings& f, const std::vector<Place>& places) {
  size_t flagged = 0, samples = 0;
  const Place* widest = nullptr;
  for (const Place& place : places) {
    for (size_t arm = 0; arm < place.at->arms.size(); ++arm) {
      flagged += f.flagged(*place.at, arm);
      samples += place.at->arms[arm].runs.size();
    }
    const auto noise = f.noise(*place.at);
    if (noise && noise->low &&
        (widest == nullptr || noise_reach(*noise) > noise_reach(*f.noise(*widest->at)))) {
      widest = &place;
    }
  }
  const std::string disturbed =
      fmt::format("{} of {} samples were flagged as disturbed", flagged, samples);
  if (widest == nullptr) return fmt::format("The noise was not measured; {}.", disturbed);
  const RatioInterval noise = *f.noise(*widest->at);
  return fmt::format("Noise: {} measured a second time is at worst {}x {} of itself ({}), and a "
                     "difference within that is none there; {}.",
                     f.name(f.control()), ratio_digits(noise.ratio), interval_text(noise),
                     where(f, *widest), disturbed);
}

}  // namespace

std::vector<std::string> answer(const Findings& f) {
  const std::vector<Place> places = places_of_control(f);
  if (places.empty()) return {};
  std::vector<std::string> sentences = {control_answer(f, places)};
  for (size_t arm = 0; arm < f.config().arms.size(); ++arm) {
    if (arm == f.control() || f.is_second_control(arm)) continue;
    sentences.push_back(arm_answer(f, places, arm));
  }
  sentences.push_back(noise_answer(f, places));
  const bool interrupted = std::any_of(f.cases().begin(), f.cases().end(),
                                       [](const CaseResult& one) { return one.interrupted; });
  if (interrupted) sentences.push_back("Interrupted: only whole blocks count.");
  sentences.push_back("Every case by itself stands under \"In words\", behind the tables.");
  return sentences;
}

}  // namespace kvlab::experiments::decode_speed_kind
