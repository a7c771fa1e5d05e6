{{/*
A range's bits as text, after its family: 10.0.0.0/8 is "4:00001010". So a range contains another if its text is a prefix of the
other's. Refuses invalid ranges. Takes (dict "name" "redis.cidrs" "range" "10.0.0.0/8").
*/}}
{{- define "decoder.bits" -}}
{{- $wrong := printf "%s: %s is not a range: use one like 10.0.0.0/8 or fd00::/8" .name .range }}
{{- $parts := splitList "/" .range }}
{{- $address := lower (first $parts) }}
{{- $prefix := int (last $parts) }}
{{- $family := "6" }}
{{- $bits := "" }}
{{- $octet := "(25[0-5]|2[0-4][0-9]|1[0-9][0-9]|[1-9]?[0-9])" }}
{{- if regexMatch (printf `^(%s\.){3}%s$` $octet $octet) $address }}
  {{- $family = "4" }}
  {{- range splitList "." $address }}{{ $bits = printf "%s%08b" $bits (int .) }}{{ end }}
{{- else }}
  {{- $nibbles := dict "0" "0000" "1" "0001" "2" "0010" "3" "0011" "4" "0100" "5" "0101" "6" "0110" "7" "0111" "8" "1000" "9" "1001" "a" "1010" "b" "1011" "c" "1100" "d" "1101" "e" "1110" "f" "1111" }}
  {{- $halves := splitList "::" $address }}
  {{- $groups := list }}
  {{- with first $halves }}{{ $groups = splitList ":" . }}{{ end }}
  {{- if eq (len $halves) 2 }}
    {{- $after := list }}
    {{- with last $halves }}{{ $after = splitList ":" . }}{{ end }}
    {{- $zeros := sub 8 (add (len $groups) (len $after)) | int }}
    {{- if lt $zeros 1 }}{{ fail $wrong }}{{ end }}
    {{- range until $zeros }}{{ $groups = append $groups "0" }}{{ end }}
    {{- $groups = concat $groups $after }}
  {{- end }}
  {{- if or (gt (len $halves) 2) (ne (len $groups) 8) }}{{ fail $wrong }}{{ end }}
  {{- range $groups }}
    {{- if not (regexMatch "^[0-9a-f]{1,4}$" .) }}{{ fail $wrong }}{{ end }}
    {{- range splitList "" (printf "%4s" . | replace " " "0") }}{{ $bits = print $bits (get $nibbles .) }}{{ end }}
  {{- end }}
{{- end }}
{{- if gt $prefix (len $bits) }}{{ fail $wrong }}{{ end }}
{{- if contains "1" (substr $prefix (len $bits) $bits) }}
  {{- fail (printf "%s: %s has bits beyond its prefix: write the first address of the range" .name .range) }}
{{- end }}
{{- printf "%s:%s" $family (trunc $prefix $bits) }}
{{- end }}

{{/* An ipBlock without the ranges `closed` that lie within it. Takes (dict "name" "redis.cidrs" "range" "10.0.0.0/8" "closed" (list "10.1.0.0/16")). */}}
{{- define "decoder.ipBlock" -}}
{{- $whole := include "decoder.bits" . }}
{{- $within := list }}
{{- range .closed }}
  {{- $bits := include "decoder.bits" (dict "name" $.name "range" .) }}
  {{- if and (hasPrefix $whole $bits) (ne $whole $bits) }}{{ $within = append $within . }}{{ end }}
{{- end -}}
ipBlock:
  cidr: {{ .range | quote }}
  {{- with uniq $within }}
  except:
  {{- range . }}
    - {{ . | quote }}
  {{- end }}
  {{- end }}
{{- end }}
