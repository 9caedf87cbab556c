// What the verbs that take a MODEL share.
#pragma once

#include <string>

#include "autograd/core/dtype.h"
#include "trainer/models/model_folder.h"
#include "trainer/verbs/verbs.h"

namespace trainer {

// load_model, its notes said to the user.
LoadedModel open_model(const std::filesystem::path& path, const Session& session);
// stream_model, its notes said to the user.
OpenedModel open_streamed(const std::filesystem::path& path, const Session& session);

// "float32" or "bfloat16"; throws kUsage for another.
ag::DType dtype_from(const std::string& name);

// Throws kRunLocked when `path` exists: before the work, not after it.
void require_new(const std::filesystem::path& path);

}  // namespace trainer
