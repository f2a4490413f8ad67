#include "@NAME@_position.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_position_@NAME@(Registry& registry) {
  PositionEntry entry;
  entry.info.name = "@NAME@";
  entry.info.summary = "How a model learns the order of its tokens, in one line.";
  entry.info.citation = "";  // authors, title, year, arXiv number; empty where there is none
  OptionSpec slope;
  slope.name = "slope";
  slope.type = OptionType::number;
  slope.default_text = "0.125";
  slope.minimum = 0;
  slope.doc = "What a score loses for every token between a query and a key.";
  entry.info.options = {slope};
  entry.info.examples = {"slope=0.5"};  // option texts that the kit tests beside the defaults
  entry.traits = [](const Options& options, const PositionShape& shape) {
    return @CLASS@Position(options.number("slope"), shape).traits();
  };
  entry.create = [](const Options& options, const PositionShape& shape) {
    return std::make_unique<@CLASS@Position>(options.number("slope"), shape);
  };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins
