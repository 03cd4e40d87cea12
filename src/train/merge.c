/* sc_merge: base model + adapter to a model folder. */
#include <string.h>

#include "base/file.h"
#include "model/model.h"
#include "seedcorn/train.h"

sc_merge_options sc_merge_default(void)
{
    return (sc_merge_options){.struct_size = sizeof(sc_merge_options), .common = sc_common_default()};
}

sc_status sc_merge(const sc_merge_options *o)
{
    sc_status status = SC_OK;
    device *d = NULL;
    model *m = NULL;
    sc_common common = o->common;

    common.dtype = "fp32"; /* the sum is formed in float32 and rounded once, when it is written */
    SC_TRY(device_open(&common, &d));
    SC_TRY(model_open(o->model, d, &m));
    SC_TRY(model_lora_load(m, o->adapter));
    SC_TRY(model_lora_merge(m));
    SC_TRY(file_make_dirs(o->out));
    SC_TRY(model_save(m, o->out, model_file_dtype(m)));
cleanup:
    model_close(m);
    device_close(d);
    return status;
}
