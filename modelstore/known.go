package modelstore

// File is one file of a model.
type File struct {
	// Name is the name of the file in the cache and on a mirror. Another SHA256 needs
	// another name, because two versions of Mien may share a cache, and each would
	// replace the other's file.
	Name string
	// URL is the address at the publisher.
	URL string
	// SHA256 is the hash of its content, in lower-case hexadecimal.
	SHA256 string
	// Size is its length in bytes.
	Size int64
}

// Model is a model that can be fetched. It has one file or several.
type Model struct {
	Name  string
	Files []File
}

// Known returns the models that Mien can fetch, sorted by name.
func Known() []Model {
	const (
		yunet  = "https://raw.githubusercontent.com/ShiqiYu/libfacedetection.train/"
		yunetN = yunet + "02246e79b1e976c83d1e135a85e0628120c93769/onnx/"
		yunetS = yunet + "2b5e61dee21441ef4676505f835ab63ee53bae1e/onnx/"
	)
	// Each URL names a commit, so its content never changes. The host is the one to
	// which github.com's /raw/ URLs redirect. None of the files is in Git LFS.
	return []Model{
		{Name: "yunet", Files: []File{{
			Name: "yunet_n_dynamic.onnx", URL: yunetN + "yunet_n_dynamic.onnx", Size: 322_906,
			SHA256: "104ee26c71d5c270ce79a6b3dced91c91013260d29a6bf18f9296c5b8c4c2b12",
		}}},
		{Name: "yunet-s", Files: []File{{
			Name: "yunet_s_dynamic.onnx", URL: yunetS + "yunet_s_dynamic.onnx", Size: 237_823,
			SHA256: "daede24002cc8590f457998cc5e6c9e8b82f45f6bd969506a8913cd4ed10a2d3",
		}}},
	}
}
