// Tensors over memory of somebody else, and the stream that torch gives its work to: what `tch` does not offer.

#include <ATen/ATen.h>
#include <c10/core/impl/VirtualGuardImpl.h>

#include <cstring>
#include <exception>

typedef void (*Drop)(void* owner);

namespace {

void say(const char* what, char* message, size_t room) {
    std::strncpy(message, what, room - 1);
    message[room - 1] = 0;
}

}  // namespace

// `numbers` of the type and on the device of `like`, from this address on. The owner of the memory is taken over in any case, and
// dropped with the tensor. The caller owns what is returned; nothing, and a message, if torch refuses.
extern "C" at::Tensor* fairlayer_wrap(void* address, int64_t numbers, const at::Tensor* like, void* owner, Drop drop,
                                      char* message, size_t room) {
    bool taken = false;
    try {
        auto let_go = [owner, drop](void*) { drop(owner); };
        std::function<void(void*)> deleter(let_go);
        taken = true;
        return new at::Tensor(at::from_blob(address, {numbers}, std::move(deleter), like->options(), like->device()));
    } catch (const std::exception& error) {
        if (!taken) drop(owner);
        say(error.what(), message, room);
        return nullptr;
    }
}

// The current stream of the device of a tensor, as CUDA's own handle. (No header of CUDA's is needed: torch's interface to any device
// knows.)
extern "C" bool fairlayer_stream(const at::Tensor* of, char* message, size_t room, void** stream) {
    try {
        c10::impl::VirtualGuardImpl device(of->device().type());
        *stream = device.getStream(of->device()).native_handle();
        return true;
    } catch (const std::exception& error) {
        say(error.what(), message, room);
        return false;
    }
}
