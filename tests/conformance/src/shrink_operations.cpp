// Makes a failing sequence short: delta debugging over the operations, then over their numbers.
#include <algorithm>
#include <chrono>
#include <utility>

#include "kvlab/conformance/random_operations.h"

namespace kvlab::conformance {

namespace {

using Kind = Operation::Kind;
using Clock = std::chrono::steady_clock;

class Shrinker {
 public:
  Shrinker(const Registry& registry, const CacheCase& chosen, std::vector<Operation> operations,
           const ShrinkBudget& budget)
      : registry_(registry), chosen_(chosen), kept_(std::move(operations)),
        attempts_left_(budget.attempts),
        end_(Clock::now() + std::chrono::duration_cast<Clock::duration>(
                                std::chrono::duration<double>(budget.seconds))) {}

  std::vector<Operation> shrink() {
    accept(kept_);  // ends with the operation that fails
    find_short_end();
    for (bool shorter = true; shorter && budget_left();) {
      remove_chunks();
      shorter = lessen_numbers();
    }
    return kept_;
  }

 private:
  bool budget_left() const { return attempts_left_ > 0 && Clock::now() < end_; }

  // Takes the candidate up to where it fails; false where it does not fail.
  bool accept(std::vector<Operation> candidate) {
    if (!budget_left()) return false;
    --attempts_left_;
    const OperationRun run = run_operations(registry_, chosen_, candidate);
    if (!run.failure) return false;
    // A cache that cannot be made fails with no operation at all.
    candidate.resize(std::min(candidate.size(), static_cast<size_t>(run.passed) + 1));
    kept_ = std::move(candidate);
    return true;
  }

  // Most failures need only what happened last: short runs are tried before long ones.
  void find_short_end() {
    for (size_t last = 1; last < kept_.size(); last *= 2) {
      if (accept({kept_.end() - static_cast<std::ptrdiff_t>(last), kept_.end()})) return;
    }
  }

  void remove_chunks() {
    for (size_t chunk = std::max<size_t>(1, kept_.size() / 2);;) {
      bool removed = false;
      for (size_t start = 0; start < kept_.size() && budget_left();) {
        std::vector<Operation> candidate = kept_;
        const auto first = candidate.begin() + static_cast<std::ptrdiff_t>(start);
        candidate.erase(first, first + static_cast<std::ptrdiff_t>(
                                           std::min(chunk, candidate.size() - start)));
        if (accept(std::move(candidate))) {
          removed = true;
        } else {
          start += chunk;
        }
      }
      if (!budget_left() || (chunk == 1 && !removed)) return;
      if (chunk > 1) chunk /= 2;
    }
  }

  // Simpler forms of one operation, the simplest first.
  static std::vector<Operation> simpler(const Operation& operation) {
    std::vector<Operation> forms;
    const auto add = [&](auto change) {
      Operation form = operation;
      change(form);
      if (!(form == operation)) forms.push_back(std::move(form));
    };
    if (operation.kind == Kind::view_twice || operation.kind == Kind::starve) {
      add([](Operation& form) {
        form.kind = Kind::step;
        form.amount = 0;
      });
    }
    for (size_t row = 0; row < operation.tokens.size(); ++row) {
      const int64_t now = operation.tokens[row];
      for (const int64_t fewer : {int64_t{-1}, int64_t{0}, int64_t{1}, now / 2, now - 1}) {
        if (fewer >= -1 && fewer < now) add([&](Operation& form) { form.tokens[row] = fewer; });
      }
    }
    for (const int64_t fewer :
         {int64_t{0}, int64_t{1}, operation.amount / 2, operation.amount - 1}) {
      if (fewer >= 0 && fewer < operation.amount) {
        add([&](Operation& form) { form.amount = fewer; });
      }
    }
    for (int row = 0; row < operation.row; ++row) add([&](Operation& form) { form.row = row; });
    for (int row = 0; row < operation.other; ++row) {
      add([&](Operation& form) { form.other = row; });
    }
    return forms;
  }

  bool lessen_numbers() {
    bool any = false;
    for (size_t place = 0; place < kept_.size(); ++place) {
      for (bool simplified = true; simplified && place < kept_.size() && budget_left();) {
        simplified = false;
        for (Operation& form : simpler(kept_[place])) {
          std::vector<Operation> candidate = kept_;
          candidate[place] = std::move(form);
          if (!accept(std::move(candidate))) continue;
          simplified = any = true;
          break;
        }
      }
    }
    return any;
  }

  const Registry& registry_;
  const CacheCase& chosen_;
  std::vector<Operation> kept_;
  int64_t attempts_left_;
  Clock::time_point end_;
};

}  // namespace

std::vector<Operation> shrink_operations(const Registry& registry, const CacheCase& chosen,
                                         std::vector<Operation> operations,
                                         const ShrinkBudget& budget) {
  return Shrinker(registry, chosen, std::move(operations), budget).shrink();
}

}  // namespace kvlab::conformance
