// No exception leaves a C door: each becomes an error number.
#ifndef EDGEBENCH_CPU_GUARDED_H_
#define EDGEBENCH_CPU_GUARDED_H_

#include <new>
#include <system_error>

#include "doors.h"

namespace edgebench {

template <typename Body>
int guarded(Body body) {
  try {
    return body();
  } catch (const std::bad_alloc&) {
    return EB_MEMORY;
  } catch (const std::system_error&) {
    return EB_THREADS;
  } catch (...) {
    return EB_INTERNAL;
  }
}

}  // namespace edgebench

#endif  // EDGEBENCH_CPU_GUARDED_H_
