// Fibers: threads of control that hand over to each other where they choose to, all on one thread of the host.
#pragma once

#include <cstddef>
#include <cstdint>
#include <stdexcept>
#include <sys/mman.h>
#include <unistd.h>
#if !defined(__x86_64__)
#include <ucontext.h>
#endif

namespace emulation {

// Where a fiber goes on.
#if defined(__x86_64__)
// (ucontext saves the signal mask with a system call each time, and is thirteen times slower.)
extern "C" void emulation_switch(void** from, void* to);
asm(".text\n.weak emulation_switch\n.type emulation_switch,@function\nemulation_switch:\n"
    "pushq %rbp\npushq %rbx\npushq %r12\npushq %r13\npushq %r14\npushq %r15\n"
    "movq %rsp,(%rdi)\nmovq %rsi,%rsp\n"
    "popq %r15\npopq %r14\npopq %r13\npopq %r12\npopq %rbx\npopq %rbp\nret\n"
    ".size emulation_switch,.-emulation_switch\n");

struct Context {
    void* stack_pointer = nullptr;
};

inline void switch_context(Context& from, Context& to) { emulation_switch(&from.stack_pointer, to.stack_pointer); }

inline void begin_at(Context& context, char* stack, size_t size, void (*entry)()) {
    auto** top = reinterpret_cast<void**>((reinterpret_cast<uintptr_t>(stack) + size) & ~uintptr_t(15));
    *--top = nullptr;  // Where `entry` would return to; it does not.
    *--top = reinterpret_cast<void*>(entry);
    for (int saved = 0; saved < 6; ++saved) *--top = nullptr;
    context.stack_pointer = top;
}
#else
struct Context {
    ucontext_t saved;
};

inline void switch_context(Context& from, Context& to) { swapcontext(&from.saved, &to.saved); }

inline void begin_at(Context& context, char* stack, size_t size, void (*entry)()) {
    getcontext(&context.saved);
    context.saved.uc_stack.ss_sp = stack;
    context.saved.uc_stack.ss_size = size;
    context.saved.uc_link = nullptr;
    makecontext(&context.saved, entry, 0);
}
#endif

// Memory between two pages that nothing may touch.
class GuardedPages {
  public:
    explicit GuardedPages(size_t bytes) : page_(static_cast<size_t>(sysconf(_SC_PAGESIZE))) {
        inner_ = (bytes + page_ - 1) / page_ * page_;
        if (inner_ == 0) inner_ = page_;
        void* whole = mmap(nullptr, inner_ + 2 * page_, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (whole == MAP_FAILED) throw std::runtime_error("the emulation has no memory left");
        whole_ = static_cast<char*>(whole);
        if (mprotect(begin(), inner_, PROT_READ | PROT_WRITE) != 0) {
            munmap(whole_, inner_ + 2 * page_);
            throw std::runtime_error("the emulation has no memory left");
        }
    }
    GuardedPages(const GuardedPages&) = delete;
    GuardedPages& operator=(const GuardedPages&) = delete;
    ~GuardedPages() { munmap(whole_, inner_ + 2 * page_); }

    char* begin() const { return whole_ + page_; }
    size_t size() const { return inner_; }
    bool guards(const void* address) const {
        const char* at = static_cast<const char*>(address);
        return (at >= whole_ && at < begin()) || (at >= begin() + inner_ && at < begin() + inner_ + page_);
    }

  private:
    size_t page_, inner_ = 0;
    char* whole_ = nullptr;
};

}  // namespace emulation
