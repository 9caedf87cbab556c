#include "trainer/ranks/weight_exchange.h"

#include "core/trace.h"
#include "trainer/ranks/pieces.h"

namespace trainer {

void exchange_weights(Comm& comm, ag::ParamStore& params) {
  const core::trace::Scope scope("exchange_weights");
  std::vector<Comm::Outgoing> outgoing;
  std::vector<Comm::Incoming> incoming;
  for (int owner = 0; owner < comm.size(); ++owner)
    for (ag::Tensor& part : params.working_parts(owner))
      for (int rank = 0; rank < comm.size(); ++rank) {
        if (rank == owner) continue;
        if (owner == comm.rank()) append_outgoing(outgoing, bytes_of(part), rank);
        if (rank == comm.rank()) append_incoming(incoming, bytes_of(part), owner);
      }
  comm.exchange(outgoing, incoming);
}

}  // namespace trainer
