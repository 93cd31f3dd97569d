//go:build embed_yunet

package main

import _ "embed" // the network

// yunetWeights is the network of the model yunet. "make build EMBED=yunet" fetches the file.
//
//go:embed embedded/yunet.onnx
var yunetWeights []byte

// yunetLicense is the notice in the repository of the network, ShiqiYu/libfacedetection.train.
const yunetLicense = `
================================================================================

the network of YuNet, from github.com/ShiqiYu/libfacedetection.train:

Copyright 2018-2022 OpenMMLab. All rights reserved.
Copyright 2022 OpenMMLab. All rights reserved.
Copyright (c) 2022 Shiqi Yu <shiqi.yu@gmail.com>

Licensed under the Apache License, Version 2.0, the text of which is at the beginning.
`
