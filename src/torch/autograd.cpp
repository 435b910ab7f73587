// A node of torch's graph whose backward pass is a Rust closure: what torch offers for this is C++ only.

#include <torch/csrc/autograd/custom_function.h>
#include <torch/csrc/autograd/functions/basic_ops.h>

#include <cstring>
#include <exception>
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

// Goes with the graph. The output is in it only until the node has taken it.
struct Closure : torch::CustomClassHolder {
    void* closure;
    Pull pull;
    Drop drop;
    at::Tensor output;

    Closure(void* closure, Pull pull, Drop drop, at::Tensor output)
        : closure(closure), pull(pull), drop(drop), output(std::move(output)) {}
    ~Closure() override { drop(closure); }
};

struct Node : torch::autograd::Function<Node> {
    static at::Tensor forward(torch::autograd::AutogradContext* context, const at::Tensor& /* the input */,
                              c10::intrusive_ptr<Closure> closure) {
        at::Tensor output = std::move(closure->output);
        context->saved_data["closure"] = c10::IValue::make_capsule(std::move(closure));
        return output;
    }

    static torch::autograd::variable_list backward(torch::autograd::AutogradContext* context,
                                                   torch::autograd::variable_list gradients) {
        auto closure = c10::static_intrusive_pointer_cast<Closure>(context->saved_data["closure"].toCapsule());
        char message[MESSAGE_ROOM] = {0};
        at::Tensor* pulled = closure->pull(closure->closure, &gradients[0], message, MESSAGE_ROOM);
        TORCH_CHECK(pulled != nullptr, message);
        torch::autograd::variable_list all = {*pulled};
        delete pulled;
        if (at::GradMode::is_enabled()) {
            // Whoever builds a graph of this would find that it ends here, and take that for zero.
            all[0].requires_grad_(true);
            torch::autograd::DelayedError error("fairlayer: the gradient of a projection cannot be differentiated again", 1);
            all = error.apply(std::move(all));
        }
        // The closure is no input.
        all.emplace_back();
        return all;
    }
};

}  // namespace

// `output` as a function of `input`, by that closure, which is taken over in any case. The caller owns what is returned;
// nothing, and a message, if torch refuses.
extern "C" at::Tensor* fairlayer_node(const at::Tensor* input, const at::Tensor* output, void* closure, Pull pull, Drop drop,
                                      char* message, size_t room) {
    try {
        auto own = c10::make_intrusive<Closure>(closure, pull, drop, *output);
        return new at::Tensor(Node::apply(*input, std::move(own)));
    } catch (const std::exception& error) {
        say(error.what(), message, room);
        return nullptr;
    }
}
