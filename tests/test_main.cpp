// The main of every test program whose tests are written down in its sources.
#include "kvlab/conformance/suite.h"

int main(int argc, char** argv) { return kvlab::conformance::run_tests(argc, argv); }
