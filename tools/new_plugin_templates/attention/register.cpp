#include "@NAME@_attention.h"
#include "kvlab/runtime/registry.h"

namespace kvlab::plugins {

void register_attention_@NAME@(Registry& registry) {
  AttentionEntry entry;
  entry.info.name = "@NAME@";
  entry.info.summary = "What is special about this attention, in one line.";
  entry.info.citation = "";  // authors, title, year, arXiv number; empty where there is none
  entry.traits = [](const Options&) { return @NAME@_traits(); };
  entry.create = [](const Options&) { return std::make_unique<@CLASS@Attention>(); };
  registry.add(std::move(entry));
}

}  // namespace kvlab::plugins
