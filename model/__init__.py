"""The contract of a task: a package with `net.py` and `data_loader.py`, named `task` in the params.

What every task defines:

    net.py          Net(params) -> nn.Module                       a class or a function
                    loss_fn(outputs, labels) -> Tensor ()          a mean; or a dict of named means,
                                                                   of which "loss" is minimised
                    metrics: dict[str, fn]                         fn(outputs, labels) -> float on
                                                                   NumPy arrays of the whole split
    data_loader.py  fetch_dataloader(splits, data_dir, params)     -> dict: split -> loader of
                                                                   batches (inputs, labels)

`splits` is a list such as ["train", "val"]; a loader is a `torch.utils.data.DataLoader` or a
`utils.Batches`. A function below that asks for `params` in its signature gets them: `loss_fn`,
`loss_weight`, `collect` and every metric, too. `params.device` and `params.data_dir` are those in
force. Inputs, labels and outputs may be tensors, or tuples, lists and dicts of them;
labels may be None where the loss needs none. What a loader sets on `params` (the size of a
vocabulary, say) reaches `Net`, which is built after the loaders, and is kept in the checkpoint. A
metric too large for a whole split may be an object with update(outputs, labels), compute() and
reset().

What a task may define; absent means the default:

    net.py          initialize(model, params)                      first weights of a new run only,
                        filled in place: a pretrained net, a teacher. A run that goes on, evaluate
                        and predict need neither the file nor a network
                    outputs = "logits", "probabilities" or "other"     what outputs (B, K) are;
                        "other", as of embeddings: no table of classes, no chance. Default: what
                        the loss does with the first batch tells, and the log says it
                    loss_weight(outputs, labels) -> Tensor ()      how many terms loss_fn's mean is
                        over; default: integer labels but those that the loss ignores (of -1,
                        -100, 255 and 0), else the examples
                    collect(outputs, labels) -> (outputs, labels)  what is kept of a batch for the
                        metrics; default: everything, sequences as one row a token
                    forward(model, batch, params) -> (outputs, labels)     for other batches
                    train_step(state, batch) -> dict[str, Tensor]  instead of forward, backward and
                        step; it calls state.update(loss, optimizer="main") once for each
                        optimizer, or with a list of names for one loss of several, and may set
                        state.seen = (outputs, labels) for the metrics
                    make_optimizer(model, params)                  an optimizer, or a dict of them:
                        without a train_step all of these step for the one loss
                    make_scheduler(optimizer, params, steps_per_epoch)     a scheduler or None; it
                        steps per update unless `lr_scheduler_interval` says otherwise
                    blocks(model) -> list of modules               what `shard: true` divides one
                        by one; default: the largest children that repeat, as layers do
                    class_names(params) -> list[str]               for tables and plots
                    predict(model, inputs, params) -> answers      for predict.py: for each of the
                        inputs (B, ...) a dict of plain values, a text, or a file as bytes; in a
                        dict the key of a file ends its name, as in {"mask.png": utils.png(mask)}
                    labelled = False                               the loss needs no labels; those
                        that are there are no classes to score
                    waived_checks = {"name of a check": "why"}     what check.py shall not ask for
    data_loader.py  data_dir = "data/..."                          where the data lie if neither the
                        command line nor the params file says so
                    show(index, split, data_dir, params) -> bytes | str    an example as a person
                        sees it, for reports: a PNG or JPEG file, or text; `index` is its id if
                        the loader has `ids`, else its number
                    read_inputs(sources, params) -> (name, inputs) ...     for predict.py: of every
                        example in a source, a file name, "-" for standard input, or any text;
                        inputs as the model takes them, without the batch's dimension. Where
                        outputs have one row a word, the name is the words, joined by single
                        spaces. It also gets `data_dir` if its signature asks for it

Here `net.py` and `data_loader.py` are the hand signs, the task to edit.
"""
