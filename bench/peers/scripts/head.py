"""Script 3 of 6: train a head on the frozen base, which runs in every epoch. `head DATA OUT EPOCHS`."""

import sys
from pathlib import Path

import torch

from bench.peers.scripts.loop import epoch, loader
from twofold.model.device import device
from twofold.training.pretrained_weights import pretrained

data, out, epochs = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
torch.manual_seed(0)
model, _ = pretrained("efficientnet_lite0", "packaged", 0.5)
model.to(device())
for parameter in model.backbone.parameters():
    parameter.requires_grad = False
optimizer = torch.optim.Adam(model.head.parameters(), lr=1e-3)
train, validation = loader(data / "train", train=True), loader(data / "validation", train=False)
for number in range(epochs):
    model.train()
    model.backbone.eval()
    epoch(model, train, optimizer)
    model.eval()
    print(f"epoch {number + 1}: {epoch(model, validation):.4f} on validation")
torch.save(model.state_dict(), out)
