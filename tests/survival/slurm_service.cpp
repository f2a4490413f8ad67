#include "tests/survival/slurm_service.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <chrono>
#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <stdexcept>
#include <thread>

namespace kvlab::survival {

namespace {

namespace fs = std::filesystem;

constexpr double kSecondsToStart = 30;

// Of two ports that nobody listens on now.
std::pair<int, int> free_ports() {
  int ports[2] = {}, sockets[2] = {};
  for (int i = 0; i < 2; ++i) {
    sockets[i] = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    sockaddr_in address{};
    address.sin_family = AF_INET;
    address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    socklen_t size = sizeof address;
    const bool bound = ::bind(sockets[i], reinterpret_cast<sockaddr*>(&address), size) == 0 &&
                       ::getsockname(sockets[i], reinterpret_cast<sockaddr*>(&address), &size) == 0;
    if (!bound) throw std::runtime_error("no free port");
    ports[i] = ntohs(address.sin_port);
  }
  for (const int socket : sockets) ::close(socket);
  return {ports[0], ports[1]};
}

std::string short_host_name() {
  char name[256] = "";
  ::gethostname(name, sizeof name - 1);
  const std::string whole = name;
  return whole.substr(0, whole.find('.'));
}

void pause(double seconds) { std::this_thread::sleep_for(std::chrono::duration<double>(seconds)); }

}  // namespace

std::string SlurmService::hindrance() {
  if (::getuid() != 0) return "Slurm's services are started by root only";
  for (const char* program : {"/usr/sbin/munged", "/usr/sbin/slurmctld", "/usr/sbin/slurmd",
                              "/usr/bin/sbatch", "/usr/bin/setpriv"}) {
    if (!fs::exists(program)) {
      return std::string(program) + " is missing: tools/setup --test-tools installs it";
    }
  }
  return "";
}

SlurmService::SlurmService() {
  // munged wants a folder that everybody can look into, and a key that nobody else can read.
  fs::permissions(folder_.path(), fs::perms(0755));
  write_key();
  write_config();
  const std::string socket = file("munge.socket");
  munged_ = start("munged", "--foreground --force --key-file=" + file("munge.key") +
                                " --socket=" + socket + " --pid-file=" + file("munged.pid") +
                                " --seed-file=" + file("munge.seed"));
  for (int i = 0; i < 100 && !fs::exists(socket); ++i) pause(0.05);
  controller_ = start("slurmctld", "-D -c -f " + file("slurm.conf"));
  node_ = start("slurmd", "-D -f " + file("slurm.conf"));
  for (double waited = 0; waited < kSecondsToStart; waited += 0.2) {
    if (run({"/usr/bin/sinfo", "-h", "-o", "%T"}).out == "idle\n") return;
    pause(0.2);
  }
  throw std::runtime_error("Slurm does not come up:\n" + logs());
}

SlurmService::~SlurmService() {
  run({"/usr/bin/scancel", "--partition=test"});
  wait_until_idle(5);
  for (RunningProgram* program : {node_.get(), controller_.get(), munged_.get()}) {
    if (program != nullptr) program->signal(SIGTERM);
  }
  // The programs' own destructors kill what is left then.
  all_gone(folder_.path(), 5);
}

void SlurmService::write_key() const {
  std::random_device random;
  std::string key;
  for (int i = 0; i < 128; ++i) key.push_back(static_cast<char>(random()));
  std::ofstream(file("munge.key"), std::ios::binary) << key;
  fs::permissions(file("munge.key"), fs::perms(0600));
}

void SlurmService::write_config() const {
  const auto [controller_port, node_port] = free_ports();
  const std::string host = short_host_name();
  fs::create_directory(file("controller"));
  fs::create_directory(file("node"));
  std::ofstream(file("slurm.conf"))
      << "ClusterName=kvlab\n"
      << "SlurmctldHost=" << host << "(127.0.0.1)\n"
      << "SlurmctldPort=" << controller_port << "\nSlurmdPort=" << node_port << "\n"
      << "CommunicationParameters=NoInAddrAny,NoCtldInAddrAny\n"
      << "AuthType=auth/munge\nAuthInfo=socket=" << file("munge.socket") << "\n"
      << "SlurmUser=root\nSlurmdUser=root\n"
      << "StateSaveLocation=" << file("controller") << "\nSlurmdSpoolDir=" << file("node") << "\n"
      << "SlurmctldPidFile=" << file("slurmctld.pid") << "\nSlurmdPidFile=" << file("slurmd.pid")
      << "\n"
      << "ProctrackType=proctrack/linuxproc\nTaskPlugin=task/none\n"
      << "SelectType=select/cons_tres\nSelectTypeParameters=CR_Core\n"
      << "JobAcctGatherType=jobacct_gather/none\n"
      << "AccountingStorageType=accounting_storage/none\nMpiDefault=none\nReturnToService=2\n"
      << "SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=10000\n"
      << "NodeName=" << host
      << " NodeAddr=127.0.0.1 CPUs=" << std::max(1u, std::thread::hardware_concurrency())
      << " State=UNKNOWN\n"
      << "PartitionName=test Nodes=ALL Default=YES MaxTime=30 State=UP\n";
}

std::unique_ptr<RunningProgram> SlurmService::start(const std::string& name,
                                                    const std::string& options) const {
  // What it says goes to a file, so that nobody has to read a pipe.
  return std::make_unique<RunningProgram>(
      std::vector<std::string>{"/bin/sh", "-c",
                               "exec /usr/bin/setpriv --pdeathsig KILL /usr/sbin/" + name + " " +
                                   options + " >" + file(name + ".log") + " 2>&1"});
}

ProgramResult SlurmService::run(std::vector<std::string> words) const {
  words.insert(words.begin(), {"/usr/bin/env", "SLURM_CONF=" + file("slurm.conf")});
  return run_program(words);
}

bool SlurmService::wait_until_idle(double seconds) const {
  for (double waited = 0; waited < seconds; waited += 0.25) {
    const ProgramResult queue = run({"/usr/bin/squeue", "-h"});
    if (queue.exit_code == 0 && queue.out.empty()) return true;
    pause(0.25);
  }
  return false;
}

std::string SlurmService::logs() const {
  std::string text;
  for (const char* name : {"munged", "slurmctld", "slurmd"}) {
    const std::string log = read_whole(file(std::string(name) + ".log"));
    text += std::string(name) + ": " + log.substr(log.size() > 2000 ? log.size() - 2000 : 0) + "\n";
  }
  return text;
}

}  // namespace kvlab::survival
