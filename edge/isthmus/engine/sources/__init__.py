"""Where models come from: a name becomes a file here, whole and verified, or not at all.

catalogue  the names; `pull` gets what is not here
wheel      out of a package index; `hub` and `hub_folder` out of a hub; `download` over HTTP
checksums  of what has come
"""
