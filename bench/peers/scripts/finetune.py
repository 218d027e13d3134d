"""Script 4 of 6: train all weights and keep the best epoch by validation. `finetune DATA HEAD OUT EPOCHS`."""

import sys
from pathlib import Path

import torch

from bench.peers.scripts.loop import epoch, loader
from twofold.model.device import device
from twofold.training.pretrained_weights import pretrained

data, head, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4])
torch.manual_seed(0)
model, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
model.load_state_dict(torch.load(head, weights_only=True))
model.to(device())
optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
train, validation = loader(data / "train", train=True), loader(data / "validation", train=False)
best = float("inf")
for number in range(epochs):
    model.train()
    epoch(model, train, optimizer)
    model.eval()
    loss = epoch(model, validation)
    print(f"epoch {number + 1}: {loss:.4f} on validation")
    if loss < best:
        best = loss
        torch.save(model.state_dict(), out)
