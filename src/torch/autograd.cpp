// A node of torch's graph whose backward pass is a Rust closure: what torch offers for this is C++ only.

#include <torch/csrc/autograd/function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>
#include <torch/csrc/autograd/functions/utils.h>

#include <cstring>
#include <exception>
#include <memory>
#include <string>

// The closure: from the gradient to the output to that to the input, owned by the caller; or nothing, and a message.
typedef at::Tensor* (*Pull)(void* closure, const at::Tensor* gradient, char* message, size_t room);
typedef void (*Drop)(void* closure);

namespace {

constexpr size_t MESSAGE_ROOM = 1024;

void say(const char* what, char* message, size_t room) {
    std::strncpy(message, what, room - 1);
    message[room - 1] = 0;
}

// A node by itself: `torch::autograd::Function` would do, but keeps what it saves in maps by name and looks through all of its
// arguments, which costs as much as a projection.
struct Projection : torch::autograd::Node {
    void* closure;
    Pull pull;
    Drop drop;

    Projection(void* closure, Pull pull, Drop drop) : closure(closure), pull(pull), drop(drop) {}
    ~Projection() override { drop(closure); }

    std::string name() const override { return "FairlayerProjection"; }

    torch::autograd::variable_list apply(torch::autograd::variable_list&& gradients) override {
        if (!gradients[0].defined()) return {at::Tensor()};
        char message[MESSAGE_ROOM] = {0};
        at::Tensor* pulled = pull(closure, &gradients[0], message, MESSAGE_ROOM);
        TORCH_CHECK(pulled != nullptr, message);
        torch::autograd::variable_list all = {*pulled};
        delete pulled;
        if (at::GradMode::is_enabled()) {
            // Whoever builds a graph of this would find that it ends here, and take that for zero.
            all[0].requires_grad_(true);
            torch::autograd::DelayedError error("fairlayer: the gradient of a projection cannot be differentiated again", 1);
            all = error.apply(std::move(all));
        }
        return all;
    }
};

}  // namespace

// `output` as a function of `input`, by that closure, which is taken over in any case. The caller owns what is returned;
// nothing, and a message, if torch refuses.
extern "C" at::Tensor* fairlayer_node(const at::Tensor* input, const at::Tensor* output, void* closure, Pull pull, Drop drop,
                                      char* message, size_t room) {
    try {
        std::shared_ptr<Projection> node(new Projection(closure, pull, drop), torch::autograd::deleteNode);
        at::Tensor result = *output;
        if (at::GradMode::is_enabled() && input->requires_grad()) {
            node->set_next_edges(torch::autograd::collect_next_edges(*input));
            torch::autograd::set_history(result, node);
        }
        return new at::Tensor(std::move(result));
    } catch (const std::exception& error) {
        say(error.what(), message, room);
        return nullptr;
    }
}
